"""Flower beside a broker of several nodes, or one that is away."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from flower.events import Events
from flower.utils import broker

from shared.flower import events
from shared.flower.queues import ask_any
from shared.topology import kept_queues

APIS = [f"http://monitor:hunter2@{node}:15672/api/" for node in ("one", "two", "three")]


class Nodes:
    """What the nodes' APIs would answer to Flower."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.asked: list[str] = []

    async def queues(self, flower: broker.RabbitMQ, names: list[str]) -> list[dict[str, str]]:
        self.asked.append(flower.http_api)
        return [] if flower.http_api in self.away else [{"name": name} for name in names]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    nodes = Nodes()

    async def queues(self: broker.RabbitMQ, names: list[str]) -> list[dict[str, str]]:
        return await nodes.queues(self, names)

    monkeypatch.setattr(broker.RabbitMQ, "queues", queues)
    ask_any(APIS)
    yield nodes


def test_flower_asks_the_next_node_when_one_is_away(nodes: Nodes) -> None:
    # Given that the first node is away
    nodes.away = {APIS[0]}
    # When Flower asks for the queues twice
    for _ in range(2):
        found = asyncio.run(broker.RabbitMQ("amqp://flower@one//", APIS[0]).queues(["mailer"]))
        # Then it has them, and those that wait for an operator
        assert [queue["name"] for queue in found] == ["mailer", *(name for name in kept_queues() if name != "mailer")]
        assert {"unrouted", "mailer.dead"} <= {queue["name"] for queue in found}
    # And the second time it asks the one that answered, and no other
    assert nodes.asked == [APIS[0], APIS[1], APIS[1]]


def test_without_any_node_there_are_no_queues(nodes: Nodes) -> None:
    nodes.away = set(APIS)
    assert asyncio.run(broker.RabbitMQ("amqp://flower@one//", APIS[0]).queues(["mailer"])) == []
    assert nodes.asked == APIS


def test_flower_asks_the_broker_again_soon_however_long_it_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a broker that is away for a hundred attempts
    pauses: list[float] = []
    monkeypatch.setattr(events, "time", SimpleNamespace(sleep=pauses.append))

    class Back(BaseException):
        """It is there again."""

    def connect() -> None:
        if len(pauses) < 100:
            raise ConnectionRefusedError
        raise Back

    # When Flower's thread listens
    monkeypatch.setattr(Events, "run", Events.run)
    events.install()
    with pytest.raises(Back):
        Events.run(SimpleNamespace(capp=SimpleNamespace(connection_for_read=connect)))
    # Then it asked each time after the same pause
    assert set(pauses) == {events.AGAIN_AFTER}
