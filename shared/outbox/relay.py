"""Publishes what was committed: at least once, under the id that its caller knows, in the order of the table."""

import logging
import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from redis.exceptions import ConnectionError, TimeoutError

from shared.outbox.entry import thaw
from shared.outbox.store import Claimed, DatabaseAway, Store
from shared.publishing import NotSent, PublishError, TooLarge, Unknown

logger = logging.getLogger(__name__)

#: Seconds that a relay may keep what it claimed. One that died leaves its rows to the others after that.
LEASE = 60.0
#: Rows at once.
BATCH = 100
#: Seconds between two looks where the database does not tell, and after which a row that failed is seen to be due.
INTERVAL = 1.0
#: A row that failed so often, while others were published, is parked.
MAX_ATTEMPTS = 10
#: Seconds before a row's next attempt, doubled each time, and the most.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
#: Seconds, at most, between two attempts while broker or database are away.
LONGEST_OUTAGE = 30.0


class Stop(Exception):
    """The broker takes nothing now: the rest of the batch goes back."""


class Relay:
    """One of any number of relays of a database.

    Args:
        app: a publisher's, or a service's, whose user may call the tasks that are recorded.
        store: the outbox.
    """

    def __init__(
        self,
        app: Any,
        store: Store,
        *,
        batch: int = BATCH,
        interval: float = INTERVAL,
        lease: float = LEASE,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> None:
        self.app = app
        self.store = store
        self.batch = batch
        self.interval = interval
        # A row must not become somebody else's while it is being published.
        self.lease = max(lease, 3 * app.settings.publish_timeout)
        self.max_attempts = max_attempts
        self.owner = f"{socket.gethostname()[:24]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.published = 0
        self.parked = 0
        self._stopping = False
        #: Something was confirmed since the last answer that never came: then the broker is well, and a row is not.
        self._well = True
        #: The row before had no answer.
        self._doubted = False

    def stop(self) -> None:
        """End after the batch in hand."""
        self._stopping = True

    def run(self) -> None:
        """Publish until `stop`, SIGTERM or SIGINT; whatever is away is waited for."""
        outage = 0
        with self._signals():
            while not self._stopping:
                try:
                    some = self.once()
                    outage = 0
                    if not some and not self._stopping:
                        self.store.wait(self.interval)
                except (Stop, DatabaseAway) as error:
                    outage += 1
                    pause = min(self.interval * 2 ** (outage - 1), LONGEST_OUTAGE)
                    logger.warning("Nothing is published for %g s: %s", pause, error)
                    self._rest(pause)
        self.store.close()

    def drain(self) -> None:
        """Publish all that is due now.

        Raises:
            Stop: the broker is away.
            DatabaseAway: the database is.
        """
        while self.once() and not self._stopping:
            pass

    def once(self) -> int:
        """One batch; gives how many rows were claimed. Raises as `drain`."""
        claimed = time.monotonic()
        rows = self.store.claim(self.owner, self.batch, self.lease)
        self._doubted = False
        try:
            for row in rows:
                if time.monotonic() - claimed > self.lease - 2 * self.app.settings.publish_timeout:
                    # The broker is slow: the rest is claimed anew, before others may.
                    break
                self._publish(row)
        except BaseException:
            with suppress(DatabaseAway):
                self.store.release(self.owner)
            raise
        if rows:
            self.store.release(self.owner)
        return len(rows)

    def _publish(self, row: Claimed) -> None:
        try:
            thaw(row.signature, self.app).apply_async()
        except TooLarge as error:
            self._failed(row, error, final=True)
        except (NotSent, ConnectionError, TimeoutError) as error:
            # The broker, or the result store that a chord needs. The row is not to blame.
            raise Stop(str(error)) from error
        except Unknown as error:
            # The row, or the broker? The next row tells. While nothing is confirmed no row is to blame.
            self._failed(row, error, counts=self._well)
            self._well = False
            if self._doubted:
                raise Stop(str(error)) from error
            self._doubted = True
        except PublishError as error:
            self._failed(row, error)
        except Exception as error:
            # Its text is no signature, its scope none: whatever it is, the next row is not this one.
            logger.exception("%s[%s] cannot be published", row.task, row.task_id)
            self._failed(row, error)
        else:
            self.store.done(row)
            self.published += 1
            self._well, self._doubted = True, False

    def _failed(self, row: Claimed, error: Exception, *, counts: bool = True, final: bool = False) -> None:
        attempts = row.attempts + counts
        park = final or attempts >= self.max_attempts
        pause = min(FIRST_PAUSE * 2 ** max(attempts - 1, 0), LONGEST_PAUSE)
        text = f"{type(error).__name__}: {error}"[:2000]
        self.store.failed(row, self.owner, attempts, text, None if park else pause)
        self.parked += park
        logger.warning(
            "%s[%s], attempt %d, %s: %s", row.task, row.task_id, attempts, "parked" if park else "later", text
        )

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def on_signal(number: int, frame: FrameType | None) -> None:
            if self._stopping:
                raise KeyboardInterrupt
            self.stop()

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
