"""Every test starts without our variables in its environment, and leaves no Celery app behind."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import _state

from shared.app import App, create_app
from shared.config import Settings
from shared.embedded.transport import Transport


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer has set does not reach a test."""
    ours = {field.upper() for field in Settings.model_fields}
    for name in list(os.environ):
        if name.removesuffix("_FILE") in ours or name in ours or name.startswith("CELERY_"):
            monkeypatch.delenv(name)


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[Callable[..., App]]:
    """Makes apps as `create_app` does: embedded below `tmp_path` unless the settings name a broker."""
    made: list[App] = []
    current, default, environment = _state._tls.current_app, _state.default_app, dict(os.environ)

    def make(name: str | None = None, **settings: Any) -> App:
        # kombu remembers for the whole process what is bound, whatever the folder.
        Transport.global_state.clear()
        app = create_app(name, settings=Settings(**{"local_dir": tmp_path / "local", **settings}))
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()
    _state._tls.current_app = current
    _state.set_default_app(default)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def cluster() -> dict[str, str]:
    """Settings of a cluster that nobody connects to."""
    return {
        "broker_url": "amqp://reporter@broker.invalid:5672//",
        "broker_password": "hunter2",
        "redis_url": "redis://reporter@redis.invalid:6379/0",
        "redis_password": "hunter3",
    }
