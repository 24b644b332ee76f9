"""A dead-letter queue in an operator's hands: looked through without losing a letter, or its place."""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic, sleep
from types import TracebackType
from typing import Any

from kombu import Consumer, Queue

from shared.dead_letters.letter import DeadLetter, read
from shared.errors import Error
from shared.topology import SERVICES, UNROUTED_QUEUE, dead_letter_queue

#: Seconds without a letter, though the queue has some, after which the broker counts as away.
PATIENCE = 10.0
#: Seconds in which another reader may end.
PATIENCE_BUSY = 3.0


class Busy(Error):
    """Another command has the queue in its hands."""


def shelf(app: Any, queue: str) -> "Shelf":
    """The letters of `queue`, wherever they lie."""
    if app.settings.over_redis:
        from shared.dead_letters.redis_shelf import RedisShelf

        return RedisShelf(app, queue)
    return Shelf(app, queue)


def queues() -> tuple[str, ...]:
    """Every queue whose messages wait for an operator."""
    return (*(dead_letter_queue(spec.name) for spec in SERVICES), UNROUTED_QUEUE)


class Shelf:
    """The letters of one queue, oldest first, each of which may be removed.

    All are taken, and at the end all that were not removed are put back at once: RabbitMQ puts what is returned behind
    what it still has, so a queue of which a part was taken changes its order, and one that was taken whole keeps it.
    While a letter is in these hands nobody else sees it, so a second reader is refused.

    Use it in a `with` block. Raises Busy, or the connection's own errors.
    """

    def __init__(self, app: Any, queue: str) -> None:
        self.app = app
        self.queue = queue
        self._connection: Any = None
        self._channel: Any = None
        self._arrived: deque[Any] = deque()
        self._taken: dict[str, Any] = {}
        self._count = 0
        self._seen = 0

    def __enter__(self) -> "Shelf":
        self._connection = self.app.connection_for_read(connect_timeout=PATIENCE)
        try:
            self._connection.connect()
            channel = self._channel = self._connection.channel()
            self._count = self._unattended(channel)
            consumer = Consumer(
                channel,
                [Queue(self.queue, channel=channel, no_declare=True)],
                on_message=self._arrived.append,
                auto_declare=False,
                # Of any kind: what is refused nowhere else is not refused here.
                accept=None,
                on_decode_error=lambda message, error: self._arrived.append(message),
            )
            consumer.consume()
            # Two that began at the same moment both see the other here.
            if channel.queue_declare(self.queue, passive=True).consumer_count > 1:
                raise self._busy()
        except BaseException:
            self._connection.collect()
            raise
        return self

    def _unattended(self, channel: Any) -> int:
        """How many letters there are, once nobody reads them; RabbitMQ notes the end of a reader a moment later."""
        deadline = monotonic() + PATIENCE_BUSY
        while (declared := channel.queue_declare(self.queue, passive=True)).consumer_count:
            if monotonic() >= deadline:
                raise self._busy()
            sleep(0.1)
        return int(declared.message_count)

    def _busy(self) -> Busy:
        return Busy(f"another command reads the queue {self.queue}: wait until it has ended")

    def __len__(self) -> int:
        """How many letters there were when the block began."""
        return self._count

    def __iter__(self) -> Iterator[DeadLetter]:
        while self._seen < self._count:
            message = self._next()
            letter = read(self.queue, message)
            self._taken[letter.key] = message
            yield letter
            # Only what is still to be removed is kept in memory.
            self._taken.pop(letter.key, None)

    def remove(self, letter: DeadLetter) -> None:
        """Take the letter that was given last off the queue for good."""
        self._taken.pop(letter.key).ack()

    def waiting(self, queue: str) -> int:
        """How many messages of another queue wait to be taken."""
        return int(self._channel.queue_declare(queue, passive=True).message_count)

    def rest(self, seconds: float) -> None:
        """Let time pass while what comes from the broker is read."""
        with suppress(TimeoutError):
            self._connection.drain_events(timeout=seconds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while self._seen < self._count:
                self._next()
            # Also carries out what was removed: the broker answers after it.
            self._connection.close()
        except (*self._connection.connection_errors, *self._connection.channel_errors, OSError):
            # All of it goes back, in another order perhaps.
            self._connection.collect()
            if kind is None:
                raise

    def _next(self) -> Any:
        deadline = monotonic() + PATIENCE
        while not self._arrived:
            try:
                self._connection.drain_events(timeout=PATIENCE)
            except TimeoutError:
                if monotonic() >= deadline:
                    raise TimeoutError(
                        f"the queue {self.queue} gave {self._seen} of {self._count} letters, and no more "
                        f"within {PATIENCE:g} s"
                    ) from None
        self._seen += 1
        return self._arrived.popleft()
