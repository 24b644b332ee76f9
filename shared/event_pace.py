"""A worker's events leave together: three a task, and each message of them costs as much as a task's own.

Celery sends what there is at each turn of its loop, which under load is after every task or two. Here a message of
events leaves at once where none has left for `APART`, and else when that is over.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any

#: Seconds between two messages of events.
APART = 0.05
#: Seconds after which a flush that was planned counts as forgotten: with its connection a loop forgets its timers.
OVERDUE = 1.0


class EventPace:
    """When a worker's events are sent.

    Args:
        flush: sends all that there are.
    """

    def __init__(self, flush: Callable[[], object]) -> None:
        self._flush = flush
        self._left = self._planned = float("-inf")

    def wanted(self, hub: Any) -> None:
        """There is something to send, by the loop of `hub`."""
        now = monotonic()
        if now < self._planned:
            return
        wait = self._left + APART - now
        self._planned = now + max(wait, 0.0) + OVERDUE
        if wait > 0:
            hub.call_later(wait, self.flush)
        else:
            hub.call_soon(self.flush)

    def flush(self) -> None:
        """Send what there is now."""
        self._planned, self._left = float("-inf"), monotonic()
        self._flush()
