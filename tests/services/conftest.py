"""A service's own worker on this machine, for one test."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
from celery import Signature

from shared.app import create_app
from shared.config import Settings
from shared.embedded.worker import running
from shared.topology import service

#: Seconds that a task may take until its result is there.
PATIENCE = 60


class Call(Protocol):
    """Runs a task in the worker that it belongs to, and gives what the task gave, or raises what it raised."""

    def __call__(self, signature: Signature) -> Any: ...


@pytest.fixture
def call(tmp_path: Path) -> Iterator[Call]:
    """Workers are started when they are first needed, one a service, and stopped after the test."""
    environ = {"PATH": os.environ["PATH"], "LOCAL_DIR": str(tmp_path / "local")}
    settings = Settings.load(environ)
    app = create_app(settings=settings, current=False)
    started: set[str] = set()
    with ExitStack() as workers:

        def call(signature: Signature) -> Any:
            name = signature.task.partition(".")[0]
            if name not in started:
                workers.enter_context(running(service(name), settings, environ))
                started.add(name)
            return app.signature(dict(signature)).apply_async().get(timeout=PATIENCE)

        yield call
    app.close()
