"""A name server that does not answer keeps no publisher longer than its timeout."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from shared import names
from shared.app import create_app
from shared.publishing import NotSent

#: Seconds that the silent name server takes.
SILENT = 20.0


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A name server that says nothing, until the test is over."""
    over = threading.Event()

    def getaddrinfo(*_: Any, **__: Any) -> Any:
        over.wait(SILENT)
        raise socket.gaierror("Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield
    over.set()


def test_a_name_is_given_up_in_time(silent: None) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="rabbitmq-2"):
        names.resolve("rabbitmq-2", 5672, 0.2)
    assert time.monotonic() - began < SILENT / 2


def test_a_host_that_is_there_is_found_and_another_is_not() -> None:
    names.resolve("localhost", 5672, 10)
    with pytest.raises(OSError):
        names.resolve("no-such-host.invalid", 5672, SILENT)


def test_a_publisher_is_told_within_its_timeout(silent: None, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a broker whose name nobody resolves
    monkeypatch.setenv("BROKER_URL", "amqp://gateway@rabbitmq-2:5672//")
    monkeypatch.setenv("REDIS_URL", "redis://gateway@127.0.0.1:9/0")
    monkeypatch.setenv("PUBLISH_TIMEOUT", "1")
    app = create_app(current=False)

    # When a task is published, then its caller is told in time that the broker does not have it
    began = time.monotonic()
    with pytest.raises(NotSent):
        app.send_task("calculator.note", ("hello",), ignore_result=True)
    assert time.monotonic() - began < SILENT / 2
