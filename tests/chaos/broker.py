"""The broker as the judge sees it: its queues, over AMQP and as its administrator, beside all that is tried."""

from dataclasses import dataclass
from typing import Any

import amqp
import requests

from shared.dead_letters.letter import read
from shared.topology import SERVICES, UNROUTED_QUEUE, dead_letter_queue
from tests.chaos.oracle import Letter

WORK = tuple(spec.name for spec in SERVICES)
#: Where what no worker did, or could do, is kept.
KEPT = (*(dead_letter_queue(name) for name in WORK), UNROUTED_QUEUE)
TIMEOUT = 10
#: A header of the judge's own, for messages that have no id.
KEY = "chaos-key"


@dataclass(frozen=True)
class Broker:
    """A RabbitMQ with its ports on this machine.

    Attributes:
        amqp_port, http_port: of its clients and of its management API.
        password: of its user `admin`.
    """

    amqp_port: int
    http_port: int
    password: str

    def connect(self, *, confirms: bool = True) -> amqp.Connection:
        """A connection for one who may do everything."""
        connection = amqp.Connection(
            f"127.0.0.1:{self.amqp_port}", userid="admin", password=self.password, confirm_publish=confirms
        )
        connection.connect()
        return connection

    def clear(self) -> None:
        """Empty every queue."""
        with self.connect() as connection:
            for queue in (*WORK, *KEPT):
                connection.channel().queue_purge(queue)

    def depths(self) -> dict[str, int]:
        """How many messages of each work queue wait or are held by a worker."""
        answer = requests.get(
            f"http://127.0.0.1:{self.http_port}/api/queues/%2F",
            params={"disable_stats": "true", "enable_queue_totals": "true"},
            auth=("admin", self.password),
            timeout=TIMEOUT,
        )
        answer.raise_for_status()
        return {queue["name"]: queue["messages"] for queue in answer.json() if queue["name"] in WORK}

    def waiting(self) -> dict[str, int]:
        """How many messages of each queue are to be had this moment; the queues themselves say so."""
        with self.connect() as connection:
            channel = connection.channel()
            return {queue: channel.queue_declare(queue, passive=True).message_count for queue in (*WORK, *KEPT)}

    @staticmethod
    def ready(waiting: dict[str, int]) -> int:
        """Of `waiting`, what is for workers."""
        return sum(waiting[queue] for queue in WORK)

    def letters(self) -> list[Letter]:
        """Everything in the dead-letter queues and in `unrouted`; it stays there."""
        with self.connect() as connection:
            channel = connection.channel()
            return [self._letter(queue, message) for queue in KEPT for message in _all(channel, queue)]

    @staticmethod
    def _letter(queue: str, message: Any) -> Letter:
        from kombu.transport.pyamqp import Message

        letter = read(queue, Message(message, channel=None))
        return Letter(str(letter.headers.get(KEY) or letter.id), letter.reason)


def _all(channel: Any, queue: str) -> list[Any]:
    taken: list[Any] = []
    while (message := channel.basic_get(queue)) is not None:
        taken.append(message)
    return taken
