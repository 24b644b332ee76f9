"""So many searches a minute: 10 for an address without a token, 30 for a token.

Source: GitHub Docs, "Rate limits for the REST API". A window opens with its first request and lasts a minute.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from threading import Lock

WINDOW = 60  # seconds
ANONYMOUS, WITH_TOKEN = 10, 30  # requests in a window


@dataclass(frozen=True, slots=True)
class Quota:
    """What a client has left after this request, as the X-RateLimit headers tell it."""

    limit: int
    used: int
    reset: int  # epoch seconds
    exceeded: bool = False

    @property
    def remaining(self) -> int:
        return self.limit - self.used


class RateLimits:
    """Counts requests by client. `clock` gives epoch seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._windows: dict[str, tuple[int, int]] = {}  # client → (reset, used)

    def take(self, client: str, limit: int) -> Quota:
        """Count one request; a refused one is not counted, so `used` stays at the limit."""
        now = self._clock()
        with self._lock:
            self._windows = {who: window for who, window in self._windows.items() if now < window[0]}
            reset, used = self._windows.get(client, (ceil(now) + WINDOW, 0))
            if used >= limit:
                return Quota(limit, used, reset, exceeded=True)
            self._windows[client] = (reset, used + 1)
            return Quota(limit, used + 1, reset)

    def unlimited(self, limit: int) -> Quota:
        """What the headers say while limits are off: nothing is ever used."""
        return Quota(limit, 0, ceil(self._clock()) + WINDOW)

    def clear(self) -> None:
        with self._lock:
            self._windows.clear()
