"""What the tests of an app look at."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import signals
from kombu.connection import Connection
from kombu.messaging import Producer

from shared.app import App

MakeApp = Callable[..., App]


class RecordingProducer(Producer):
    """Keeps the tasks that it was told to publish, and drops Celery's events."""

    def __init__(self) -> None:
        super().__init__(Connection("memory://").channel())
        self.published: list[dict[str, Any]] = []

    def publish(self, body: Any, **options: Any) -> None:
        if getattr(options["exchange"], "name", options["exchange"]) != "celeryev":
            self.published.append({"body": body, **options})


def to(producer: RecordingProducer) -> dict[str, Any]:
    """Options to publish there. A caller who wants the result would subscribe to it first, in Redis."""
    return {"producer": producer, "ignore_result": True}


@contextmanager
def announced() -> Iterator[list[dict[str, Any]]]:
    """What Celery says that it is about to publish."""
    heard: list[dict[str, Any]] = []

    def hear(**told: Any) -> None:
        heard.append(told)

    signals.before_task_publish.connect(hear)
    try:
        yield heard
    finally:
        signals.before_task_publish.disconnect(hear)


def arrived(app: App, name: str = "reporter") -> Any:
    """The next message in a queue of the embedded broker."""
    with app.connection_for_read() as connection:
        return connection.default_channel.basic_get(name, no_ack=True)
