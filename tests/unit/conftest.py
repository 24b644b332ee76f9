"""Every test starts without our variables in its environment, and leaves no Celery app behind."""

import logging
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import s3fs
from celery import _state
from moto.server import ThreadedMotoServer

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


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """A server that speaks S3, on the loopback; gives its address."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(object_store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A place for reports in a new bucket, with the environment that the pods have; gives REPORTS_URL."""
    environment = {
        "AWS_ENDPOINT_URL": object_store,
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "made-up",
        "AWS_SECRET_ACCESS_KEY": "made-up",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{uuid.uuid4()}"
    boto3.client("s3", endpoint_url=object_store, region_name="us-east-1").create_bucket(Bucket=name)
    s3fs.S3FileSystem.clear_instance_cache()
    yield f"s3://{name}/reports"
    s3fs.S3FileSystem.clear_instance_cache()
