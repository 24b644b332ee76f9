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
        ports: of each node: of its clients, and of its management API. The first node that answers is asked.
        password: of its user `admin`.
    """

    ports: tuple[tuple[int, int], ...]
    password: str

    def connect(self, *, confirms: bool = True) -> amqp.Connection:
        """A connection for one who may do everything.

        Raises:
            OSError: no node takes one.
        """
        error: Exception = OSError("the broker has no node")
        for port, _ in self.ports:
            connection = amqp.Connection(
                f"127.0.0.1:{port}",
                userid="admin",
                password=self.password,
                confirm_publish=confirms,
                connect_timeout=TIMEOUT,
                read_timeout=TIMEOUT,
            )
            try:
                connection.connect()
                return connection
            except (OSError, amqp.AMQPError) as refused:
                error = refused
        raise OSError(f"no node of the broker takes a connection: {error}") from error

    def ask(self, path: str, **parameters: str) -> Any:
        """What the management API of the first node that answers says.

        Raises:
            requests.RequestException: no node answers.
        """
        error = requests.RequestException("the broker has no node")
        for _, port in self.ports:
            url = f"http://127.0.0.1:{port}/api/{path}"
            try:
                answer = requests.get(url, params=parameters, auth=("admin", self.password), timeout=TIMEOUT)
                answer.raise_for_status()
                return answer.json()
            except requests.RequestException as refused:
                error = refused
        raise error

    def version(self) -> str:
        """RabbitMQ's."""
        return str(self.ask("overview")["rabbitmq_version"])

    def queues(self) -> list[dict[str, Any]]:
        """What the broker says of each queue. Its counts are up to five seconds old."""
        return list(self.ask("queues/%2F", disable_stats="true", enable_queue_totals="true"))

    def leader(self, queue: str) -> str:
        """The host that leads `queue`."""
        (found,) = [one for one in self.queues() if one["name"] == queue]
        return str(found["leader"]).partition("@")[2]

    def complete(self, queue: str, members: int) -> bool:
        """Whether that many members of `queue` are there."""
        try:
            return any(one["name"] == queue and len(one["online"]) == members for one in self.queues())
        except (requests.RequestException, KeyError):
            return False

    def clear(self) -> None:
        """Empty every queue."""
        with self.connect() as connection:
            for queue in (*WORK, *KEPT):
                connection.channel().queue_purge(queue)

    def depths(self) -> dict[str, int]:
        """How many messages of each work queue wait or are held by a worker, as of a few seconds ago."""
        return {queue["name"]: queue["messages"] for queue in self.queues() if queue["name"] in WORK}

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
