"""One embedded worker for all tests of the scope, and an app that publishes to it."""

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest
from celery import _state

from shared.app import App, create_app
from shared.config import Settings
from shared.embedded.transport import Transport
from shared.embedded.worker import running
from shared.spec import ServiceSpec
from shared.topology import service
from tests.scope.worker import folder

PATIENCE = 20.0


class TellingSpec(ServiceSpec):
    """The reporter, with the worker of these tests."""

    @property
    def app(self) -> str:
        return "tests.scope.worker"


def telling_spec() -> TellingSpec:
    """The same facts as the reporter's."""
    spec = service("reporter")
    return TellingSpec(**{one.name: getattr(spec, one.name) for one in fields(spec)})


@dataclass(frozen=True)
class Telling:
    """A publisher, and what the leaves that it published have seen."""

    app: App
    seen: Path
    log: Path
    environ: dict[str, str] = field(repr=False)

    def scopes(self, labels: Iterable[str]) -> dict[str, Any]:
        """The scope that each leaf of `labels` saw, once all of them have run."""
        labels, deadline = set(labels), time.monotonic() + PATIENCE
        while missing := {label for label in labels if not (self.seen / label).exists()}:
            assert time.monotonic() < deadline, f"these have not run: {sorted(missing)}: {self.log.read_text()[-4000:]}"
            time.sleep(0.02)
        return {label: json.loads((self.seen / label).read_text()) for label in labels}

    def scope_of(self, label: str) -> Any:
        """The scope that one leaf saw."""
        return self.scopes([label])[label]


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telling]:
    """The worker, for the whole session."""
    local = tmp_path_factory.mktemp("scope") / "local"
    hidden = ("BROKER_URL", "REDIS_URL", "HEALTH_FILE")
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    environ |= {"LOCAL_DIR": str(local), "TELL_SCOPES": "1", "TASK_LOG_DIR": str(local / "task-logs")}
    kept, default = _state._tls.current_app, _state.default_app
    Transport.global_state.clear()
    settings = Settings.load(environ)
    app = create_app(settings=settings)
    with running(telling_spec(), settings, environ) as log:
        yield Telling(app, folder(local), log, environ)
    app.close()
    _state._tls.current_app = kept
    _state.set_default_app(default)


@pytest.fixture
def house(session: Telling) -> Iterator[Telling]:
    """The same, with its app as the current one in every thread of this process."""
    kept, default = _state._tls.current_app, _state.default_app
    session.app.set_current()
    session.app.set_default()
    yield session
    _state._tls.current_app = kept
    _state.set_default_app(default)
