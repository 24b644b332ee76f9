"""The thread of one process that hands reports to the broker, or to the spool while there is none."""

import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from shared.error_mail.publisher import Publisher
from shared.error_mail.spool import Spool

logger = logging.getLogger(__name__)

#: Seconds without another attempt after the first failure; each further one doubles them, up to the last.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
#: Seconds between two looks into the spool while nothing happens: another process may have left something.
IDLE = 60.0

Item = dict[str, Any]


class Breaker:
    """Says when it is worth another attempt."""

    def __init__(self) -> None:
        self._failures = 0
        self._open_until = 0.0

    def remaining(self) -> float:
        """Seconds until the next attempt; 0 where it may be made now."""
        return max(0.0, self._open_until - time.monotonic())

    def failed(self) -> None:
        """Wait, longer each time."""
        self._open_until = time.monotonic() + min(FIRST_PAUSE * 2**self._failures, LONGEST_PAUSE)
        self._failures += 1

    def succeeded(self) -> None:
        """All is well."""
        self._failures = 0


class Sender:
    """Takes reports without waiting. Belongs to the process that made it.

    Args:
        connect: makes what publishes an item; called in the thread.
        size: reports that wait in memory; one more is dropped, and counted.
    """

    def __init__(self, connect: Callable[[], Publisher], spool: Spool, size: int) -> None:
        self._connect = connect
        self._publisher: Publisher | None = None
        self._spool = spool
        self._waiting: queue.Queue[Item | None] = queue.Queue(size)
        self._breaker = Breaker()
        self._lock = threading.Lock()
        self._dropped = 0
        self._told = 0
        #: What the thread is about to publish: `close` does not wait for a broker that is silent.
        self._in_hand: Item | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="error-mail", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Reports that could be kept nowhere, since this process began."""
        return self._dropped

    def is_me(self) -> bool:
        """Whether the caller is our own thread."""
        return threading.current_thread() is self._thread

    def put(self, arguments: Item) -> None:
        """Hand over the arguments of `mailer.report_error`."""
        item = {"id": str(uuid.uuid4()), "arguments": arguments}
        try:
            self._waiting.put_nowait(item)
        except queue.Full:
            self._drop(1)

    def close(self, timeout: float) -> None:
        """Publish what waits for `timeout` seconds, then spool it."""
        self._closing = True
        with suppress(queue.Full):  # where it is, the thread is not waiting for anything
            self._waiting.put_nowait(None)
        self._thread.join(timeout)
        left = [self._in_hand]
        with suppress(queue.Empty):
            while True:
                left.append(self._waiting.get_nowait())
        for item in left:
            if item is not None:
                # Where it is published all the same, its id makes the second copy harmless.
                self._keep(item)

    def _run(self) -> None:
        while not self._closing or not self._waiting.empty():
            try:
                item = self._waiting.get(timeout=self._breaker.remaining() or IDLE)
            except queue.Empty:
                item = None
            self._in_hand = item
            if item is not None and not self._publish(item):
                self._keep(item)
            self._in_hand = None
            if not self._closing:
                self._drain()

    def _publish(self, item: Item) -> bool:
        if self._breaker.remaining():
            return False
        try:
            self._hand_over(item)
        except ValueError as error:
            # Not the broker's fault, and no better the next time.
            self._drop(1)
            logger.debug("The report cannot be published: %s", error)
            return True
        except Exception as error:
            self._breaker.failed()
            logger.debug("No broker takes the report: %s", error)
            return False
        self._breaker.succeeded()
        return True

    def _hand_over(self, item: Item) -> None:
        if self._publisher is None:
            self._publisher = self._connect()
        with self._lock:
            untold = self._dropped - self._told
        arguments = item["arguments"]
        self._publisher({**item, "arguments": {**arguments, "dropped": untold + arguments.get("dropped", 0)}})
        with self._lock:
            self._told += untold

    def _drain(self) -> None:
        # Only when nothing waits in memory: what is new shows that the fault is still there.
        if self._breaker.remaining() or not self._waiting.empty() or self._spool.empty():
            return
        try:
            self._drop(self._spool.drain(self._hand_over))
        except Exception as error:
            self._breaker.failed()
            logger.debug("The spool cannot be emptied: %s", error)
        else:
            self._breaker.succeeded()

    def _keep(self, item: Item) -> None:
        if not self._spool.put(item):
            self._drop(1)

    def _drop(self, count: int) -> None:
        with self._lock:
            self._dropped += count
