"""The schedule in Redis, one beat at a time, with a sign of health."""

import threading
from pathlib import Path
from typing import Any

from redbeat import RedBeatScheduler

#: Seconds between two signs of a beat that waits for another one's lock.
WAITING_INTERVAL = 2.0


class Scheduler(RedBeatScheduler):
    """RedBeat's scheduler. It makes the file `HEALTH_FILE` at each tick, and while it waits for the lock.

    Two beats may run: the lock lets one of them act, and the other takes over when the first has been silent for
    `redbeat_lock_timeout`. Waiting is healthy.
    """

    def __init__(self, app: Any, **kwargs: Any) -> None:
        self._health: Path | None = app.settings.health_file
        super().__init__(app, **kwargs)
        if self._health is not None and not kwargs.get("lazy"):
            threading.Thread(target=self._sign_while_waiting, daemon=True).start()

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """Publish what is due; gives the seconds until the next look."""
        self._sign()
        return super().tick(*args, **kwargs)

    def _sign_while_waiting(self) -> None:
        pause = threading.Event()
        while self.lock is None:
            self._sign()
            pause.wait(WAITING_INTERVAL)

    def _sign(self) -> None:
        if self._health is not None:
            self._health.touch()
