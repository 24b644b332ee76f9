"""The dead letters of one queue where Redis is the broker: a list, which is read without taking anything off it."""

from collections.abc import Iterator
from types import TracebackType

from kombu.utils.json import loads

from shared.dead_letters.letter import DeadLetter, read
from shared.dead_letters.shelf import PATIENCE, Shelf

#: Letters that are read at once.
PAGE = 100


class RedisShelf(Shelf):
    """As `Shelf`. Others see the letters meanwhile; a letter is removed by whoever is first."""

    def __enter__(self) -> "RedisShelf":
        self._connection = self.app.connection_for_read(connect_timeout=PATIENCE)
        self._connection.connect()
        self._channel = self._connection.channel()
        self._count = self.waiting(self.queue)
        return self

    def __iter__(self) -> Iterator[DeadLetter]:
        for raw in self._oldest_first():
            letter = read(self.queue, self._channel.Message(loads(raw), channel=self._channel))
            self._taken = {letter.key: raw}
            yield letter

    def _oldest_first(self) -> Iterator[bytes]:
        # New letters come in on the left, and what is removed is behind us: neither moves what is still to be read.
        with self._channel.conn_or_acquire() as client:
            for key in self._keys(self.queue):
                end = client.llen(key)
                while end > 0:
                    page = client.lrange(key, max(end - PAGE, 0), end - 1)
                    yield from reversed(page)
                    end -= PAGE

    def _keys(self, queue: str) -> list[str]:
        # A list a priority.
        return [self._channel._q_for_pri(queue, priority) for priority in self._channel.priority_steps]

    def remove(self, letter: DeadLetter) -> None:
        """Take the letter that was given last off the queue for good."""
        raw = self._taken.pop(letter.key)
        with self._channel.conn_or_acquire() as client:
            for key in self._keys(self.queue):
                client.lrem(key, -1, raw)

    def waiting(self, queue: str) -> int:
        """How many messages of a queue wait to be taken."""
        return int(self._channel._size(queue))

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        from time import sleep

        sleep(seconds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.collect()
