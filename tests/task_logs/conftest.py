"""Workers of the calculator with task logs, embedded."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from celery import _state

from shared.app import App, create_app
from shared.config import Settings
from shared.embedded.transport import Transport
from shared.embedded.worker import running
from shared.spec import Pool, ServiceSpec
from shared.topology import service

PATIENCE = 60.0
CALCULATOR = service("calculator")


@dataclass(frozen=True)
class House:
    """A running worker, and an app that publishes to it."""

    app: App
    logs: Path
    console: Path
    environ: dict[str, str]

    def log(self, task: str) -> list[str]:
        """The lines of a task's log."""
        file = self.logs / f"{task}.log"
        return file.read_text().splitlines() if file.exists() else []

    def until(self, what: str, happened: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait for a condition that the worker brings about."""
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}\n{self.console.read_text()[-3000:]}"
            time.sleep(0.02)


MakeHouse = Callable[..., AbstractContextManager[House]]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[MakeHouse]:
    """Makes houses: `with worker(pool="prefork", LOG_FORMAT="json") as house`."""
    kept, default, environment = _state._tls.current_app, _state.default_app, dict(os.environ)

    @contextmanager
    def make(pool: Pool = "threads", spec: ServiceSpec = CALCULATOR, **variables: str) -> Iterator[House]:
        Transport.global_state.clear()
        logs = tmp_path / "task-logs"
        environ = {name: value for name, value in os.environ.items() if name not in ("BROKER_URL", "REDIS_URL")}
        environ |= {"LOCAL_DIR": str(tmp_path / "local"), "TASK_LOG_DIR": str(logs), **variables}
        app = create_app(settings=Settings.load({"LOCAL_DIR": environ["LOCAL_DIR"]}))
        try:
            with running(spec, Settings.load(environ), environ, pool) as console:
                yield House(app, logs, console, environ)
        finally:
            app.close()

    yield make
    _state._tls.current_app = kept
    _state.set_default_app(default)
    os.environ.clear()
    os.environ.update(environment)
