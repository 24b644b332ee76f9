"""A storm of errors becomes few mails: one for each fingerprint and window, a cap for any hour, and a digest."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, get_args

from shared.signatures.mailer import Window

WINDOWS: tuple[Window, ...] = get_args(Window)
#: Seconds that each digest looks back.
WINDOW_SECONDS: dict[Window, int] = {"1h": 3600, "6h": 6 * 3600, "day": 24 * 3600}
HOUR = 3600
#: Fingerprints that one digest lists; what is held back beyond them is counted in one line.
MOST_LINES = 500
#: The fingerprints of that line, and of what programs could not keep.
OTHERS = "others"
DROPPED = "dropped"
#: Seconds without another look at counters that did not answer: a storm is no time to wait for each report.
AWAY_FOR = 10.0
#: Seconds that held-back counts wait for a digest that nobody asks for.
KEEP = 7 * 24 * 3600


@dataclass(frozen=True)
class Limits:
    """How much is mailed.

    Attributes:
        window: seconds in which one fingerprint makes one mail.
        hourly: mails in any hour.
    """

    window: float
    hourly: int


@dataclass(frozen=True)
class Report:
    """An error that asks to be mailed.

    Attributes:
        event: the task that carries it. An event that was admitted is admitted again: its mail may need more attempts.
        seen: when it happened, in seconds since the epoch.
    """

    event: str
    fingerprint: str
    subject: str
    seen: float


@dataclass(frozen=True)
class HeldBack:
    """Reports of one fingerprint that were not mailed.

    Attributes:
        subject: of the latest.
        first, last: seconds since the epoch.
    """

    fingerprint: str
    subject: str
    count: int
    first: float
    last: float


class StormAway(Exception):
    """The counters do not answer."""


class Storm(Protocol):
    """Every method is one atomic step, and raises StormAway. `now` is in seconds since the epoch."""

    def admit(self, report: Report, limits: Limits, now: float) -> bool:
        """Whether the report may be mailed; else it is held back in every window."""

    def hold(self, window: Window, lines: Iterable[HeldBack]) -> None:
        """Add to what is held back."""

    def take(self, window: Window, event: str) -> list[HeldBack]:
        """What was held back since the last take of this window, most first; the same again for the same event."""

    def done(self, window: Window, event: str) -> None:
        """The digest of this event is on its way: forget what it took."""


class Guard:
    """Storm control that goes on, in bounds, while the shared counters are away.

    Args:
        main: the counters that all workers share.
        local: those of this container; None where `main` is local itself.
    """

    def __init__(self, main: Storm, local: Storm | None, limits: Limits) -> None:
        self._main = main
        self._local = local
        self._limits = limits
        # An earlier process of this container may have left something.
        self._counted_here = local is not None
        self._ask_again = 0.0

    def admit(self, report: Report, now: float, dropped: int = 0) -> bool:
        """Whether the report may be mailed now; counts it where not, and what its program had to drop.

        Raises:
            StormAway: neither counters answer.
        """
        if self._local is None:
            return self._count(self._main, report, now, dropped)
        if time.monotonic() >= self._ask_again:
            try:
                admitted = self._count(self._main, report, now, dropped)
                self._bring_home()
                return admitted
            except StormAway:
                self._ask_again = time.monotonic() + AWAY_FOR
        self._counted_here = True
        return self._count(self._local, report, now, dropped)

    def _count(self, storm: Storm, report: Report, now: float, dropped: int) -> bool:
        if dropped:
            line = HeldBack(DROPPED, "reports that programs had to drop", dropped, report.seen, report.seen)
            for window in WINDOWS:
                storm.hold(window, [line])
        return storm.admit(report, self._limits, now)

    def take(self, window: Window, event: str) -> list[HeldBack]:
        """As Storm; what was counted here while the shared counters were away is in it. Raises StormAway."""
        self._bring_home()
        return self._main.take(window, event)

    def done(self, window: Window, event: str) -> None:
        """As Storm."""
        self._main.done(window, event)

    def _bring_home(self) -> None:
        if self._local is None or not self._counted_here:
            return
        for window in WINDOWS:
            # Two steps: a crash between them counts the lines twice, and loses none.
            if lines := self._local.take(window, "home"):
                self._main.hold(window, lines)
                self._local.done(window, "home")
        self._counted_here = False


def merged(known: HeldBack | None, new: HeldBack) -> HeldBack:
    """Both as one line."""
    if known is None:
        return new
    return HeldBack(
        new.fingerprint,
        new.subject if new.last >= known.last else known.subject,
        known.count + new.count,
        min(known.first, new.first),
        max(known.last, new.last),
    )
