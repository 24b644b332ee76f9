"""A worker of `calculator` as processes on this machine, beside a real broker and a real Redis."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.config import Settings
from tests.servers import OwnBroker, OwnRedis
from tests.watching.house import House


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer has set does not reach a test."""
    for name in list(os.environ):
        if name.removesuffix("_FILE").lower() in Settings.model_fields or name.startswith("CELERY_"):
            monkeypatch.delenv(name)


@pytest.fixture
def house(broker: OwnBroker, redis: OwnRedis, tmp_path: Path) -> Iterator[House]:
    """No worker yet; every queue is empty."""
    house = House(broker, redis, tmp_path)
    try:
        yield house
    finally:
        house.close()
