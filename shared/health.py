"""Is this process alive, and can it take work? Written down by its loop, read by the thread that answers."""

import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

from shared.status import Answer

#: Seconds in which the loop of a process that lives has turned.
ALIVE_WITHIN = 30.0
#: Seconds in which the loop of a process that can take work has turned: the longest that a worker's loop waits in one
#: go, for a broker that does not confirm a dead letter, is 4.
READY_WITHIN = 10.0


class Health:
    """What the loop of a process last said of itself.

    It is written by the loop alone, and each field is replaced whole: who reads in another thread needs no lock.

    Args:
        alive_within: seconds in which the loop must have turned; likewise for `ready_within`.
        fault: why no work can be taken; None while it can.
        clock: seconds, from any start.
    """

    def __init__(
        self,
        fault: str | None = "it has not begun to consume",
        *,
        alive_within: float = ALIVE_WITHIN,
        ready_within: float = READY_WITHIN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fault = fault
        self._alive_within, self._ready_within = alive_within, ready_within
        self._clock = clock
        self._turned = clock()
        self._stopping = False

    def turn(self, seconds: float = 0.0) -> None:
        """The loop has turned, and may take `seconds` until it does again."""
        self._turned = self._clock() + seconds

    def stop(self) -> None:
        """It has been told to end: it takes no more work, and finishes what it has."""
        self._stopping = True

    def alive(self) -> Answer:
        """Whether the loop turns. Nothing outside the process decides it: an outage is no reason to start it anew."""
        if self._stopping:
            # Who told it to end also says how long it may take.
            return Answer(HTTPStatus.OK, "stopping\n")
        return _answer(self._silence(self._alive_within))

    def ready(self) -> Answer:
        """Whether it takes work."""
        if self._stopping:
            return _answer("it is stopping")
        return _answer(self.fault or self._silence(self._ready_within))

    def routes(self) -> Mapping[str, Callable[[], Answer]]:
        """What a status port answers."""
        return {"/healthz": self.alive, "/readyz": self.ready}

    def _silence(self, within: float) -> str | None:
        seconds = self._clock() - self._turned
        return f"its loop has not turned for {seconds:.0f} s" if seconds > within else None


def _answer(fault: str | None) -> Answer:
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, fault + "\n") if fault else Answer(HTTPStatus.OK, "ok\n")
