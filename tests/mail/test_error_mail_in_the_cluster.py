"""The logging handler and a broker that freezes with its connections open, then goes on."""

import json
import logging
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.app import create_app
from shared.config import Settings
from shared.error_mail import ErrorMailHandler
from tests.servers import OwnBroker, OwnRedis
from tests.waiting import eventually

pytestmark = pytest.mark.containers

#: Seconds that a request may be held, as promised.
HELD = 0.05


class Queue:
    """The mailer's queue, without a worker."""

    def __init__(self, settings: Settings) -> None:
        self._app = create_app(settings=settings, current=False)
        self.subjects: list[str] = []

    def take(self) -> list[str]:
        """The subjects of all reports that have come."""
        with self._app.connection_for_write() as connection:
            while message := connection.default_channel.basic_get("mailer", no_ack=True):
                self.subjects.append(json.loads(message.body)[1]["subject"])
        return self.subjects


@pytest.fixture
def settings(broker: OwnBroker, redis: OwnRedis) -> Settings:
    """A program that may publish."""
    return Settings.load(broker.user("operator", redis))


@pytest.fixture
def log(settings: Settings, tmp_path: Path) -> Iterator[logging.Logger]:
    """A program's logger with the handler."""
    logger = logging.Logger("shop")
    handler = ErrorMailHandler(source="shop", settings=settings, spool=tmp_path / "spool")
    logger.addHandler(handler)
    yield logger
    handler.close()


def test_a_frozen_broker_holds_nobody_and_loses_nothing(
    broker: OwnBroker, settings: Settings, log: logging.Logger, tmp_path: Path
) -> None:
    queue = Queue(settings)
    # Given a program that has an open connection to the broker
    log.error("fault 0")
    eventually(lambda: queue.take() == ["[shop] fault 0"])
    # When the broker freezes, and the program has errors
    broker.freeze()
    try:
        seconds = []
        for number in range(1, 51):
            start = time.perf_counter()
            log.error("fault %d", number)
            seconds.append(time.perf_counter() - start)
        # Then none of them is held, and all are kept on disk
        assert statistics.quantiles(seconds, n=20)[-1] < HELD
        eventually(lambda: len(list((tmp_path / "spool").glob("*.json"))) >= 50)
    finally:
        broker.thaw()
    # And when it goes on, every report arrives by itself; the one that was on its way may come twice, under one id
    expected = {f"[shop] fault {number}" for number in range(51)}
    eventually(lambda: set(queue.take()) == expected, patience=90)
    assert len(queue.subjects) <= 52
    assert list((tmp_path / "spool").glob("*.json")) == []
