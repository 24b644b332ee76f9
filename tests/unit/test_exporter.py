"""What the exporter makes of the broker's own counts."""

from collections.abc import Iterator
from typing import Any

import pytest

from shared.exporter import Looker
from shared.metrics import declared
from shared.topology import service


class Broker:
    """Its management API, with one queue."""

    def __init__(self) -> None:
        self.published: int | None = None

    def get(self, path: str) -> Any:
        if not path.startswith("/queues/"):
            return []
        stats = {} if self.published is None else {"message_stats": {"publish": self.published}}
        return [{"name": "mailer", "messages": 0, **stats}]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """What is added to the mailer's count, look by look."""
    added: list[float] = []

    def inc(*labels: str, by: float) -> None:
        if labels == ("mailer",):
            added.append(by)

    monkeypatch.setattr(declared.QUEUE_PUBLISHED, "inc", inc)
    yield added


def test_messages_are_counted_through_a_restart_of_the_broker(counted: list[float]) -> None:
    # Given a broker that has counted before, then counts on, restarts, says nothing for a look, and counts anew
    broker = Broker()
    looker = Looker(broker, [service("mailer")])  # type: ignore[arg-type]
    for now, published in enumerate((100, 100, 107, None, None, 3, 5)):
        broker.published = published
        looker.look(float(now))
    # Then each message is counted once, and none that came before
    assert counted == [0, 0, 7, 0, 0, 3, 2]


def test_the_first_message_of_a_queue_is_counted(counted: list[float]) -> None:
    broker = Broker()
    looker = Looker(broker, [service("mailer")])  # type: ignore[arg-type]
    for now, published in enumerate((None, 1)):
        broker.published = published
        looker.look(float(now))
    assert counted == [0, 1]
