"""A worker of the reporter with tasks that tell their scope: `celery -A tests.scope.worker worker`."""

import json
import os
import uuid
from pathlib import Path
from typing import Any

from shared import scope
from shared.app import create_app
from shared.errors import Final, Retryable
from shared.signatures import Declaration
from shared.tasks import LoggingTask, ScopedTask, implements


def _declared(name: str, function: Any) -> "Declaration[..., Any]":
    # Known to whoever imports this module, and to nobody else.
    return Declaration(f"reporter.{name}", function, keeps_result=True)


def _leaf(label: str) -> str:
    raise NotImplementedError


def _nested(label: str, depth: int, seen: dict[str, Any]) -> None: ...
def _retried(label: str, times: int) -> None: ...
def _failing(label: str) -> None: ...
def _replaced(label: str, by: list[str], locale: str | None = None) -> Any: ...
def _greeting(label: str, locale: str | None = None, scenario_id: int | None = None) -> dict[str, Any]:
    raise NotImplementedError


def _logged(label: str, locale: str | None = None) -> str | None:
    raise NotImplementedError


def _sleeping(label: str, seconds: float) -> None: ...


leaf = _declared("leaf", _leaf)
nested = _declared("nested", _nested)
retried = _declared("retried", _retried)
failing = _declared("failing", _failing)
replaced = _declared("replaced", _replaced)
greeting = _declared("greeting", _greeting)
logged = _declared("logged", _logged)
sleeping = _declared("sleeping", _sleeping)


def folder(local_dir: Path) -> Path:
    """Where each leaf says which scope it saw."""
    return local_dir / "seen"


def _tell(label: str) -> None:
    target = folder(app.settings.local_dir.absolute())
    target.mkdir(exist_ok=True)
    part = target / f".{uuid.uuid4()}"
    part.write_text(json.dumps(scope.current()))
    part.rename(target / label)


if os.environ.get("TELL_SCOPES"):
    app = create_app("reporter")

    @implements(leaf, app)
    def run_leaf(label: str) -> str:
        _tell(label)
        return label

    @implements(nested, app)
    def run_nested(label: str, depth: int, seen: dict[str, Any]) -> None:
        if depth:
            nested(label, depth - 1, {**seen, str(depth): scope.current()}).delay()
        else:
            _tell(label)

    @implements(retried, app, bind=True)
    def run_retried(task: Any, label: str, times: int) -> None:
        _tell(f"{label}-{task.request.retries}")
        if task.request.retries < times:
            # Raised inside a scope of its own, which is not the next attempt's.
            with scope.scope(locale="of the attempt", attempt=task.request.retries):
                raise task.retry(exc=Retryable("again"), countdown=0)

    @implements(failing, app)
    def run_failing(label: str) -> None:
        _tell(label)
        with scope.scope(locale="of the failure"):
            raise Final("as asked")

    @implements(replaced, app, bind=True)
    def run_replaced(task: Any, label: str, by: list[str], locale: str | None) -> Any:
        from celery import group

        _tell(label)
        if locale is None:
            return task.replace(group(leaf.si(one) for one in by))
        unscoped = group(leaf.si(one) for one in by)
        with scope.scope(locale=locale):
            return task.replace(unscoped)

    @implements(greeting, app, base=ScopedTask, scope_args=("locale",))
    def run_greeting(label: str, locale: str | None, scenario_id: int | None) -> dict[str, Any]:
        _tell(label)
        return {"locale": locale, "scenario_id": scenario_id}

    class Both(ScopedTask, LoggingTask):
        """Has arguments from the scope, and a log of its own."""

        abstract = True
        scope_args = ("locale",)

    @implements(logged, app, bind=True, base=Both)
    def run_logged(task: Any, label: str, locale: str | None) -> str | None:
        task.log_msg("%s in %s", label, locale)
        return locale

    @implements(sleeping, app)
    def run_sleeping(label: str, seconds: float) -> None:
        import time

        _tell(label)
        time.sleep(seconds)
