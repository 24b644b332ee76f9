"""The schedule in Redis, one beat at a time, with a sign of health."""

import time
from http import HTTPStatus
from typing import Any

from redbeat import RedBeatScheduler

from shared.health import Health
from shared.metrics.declared import READY, TICK
from shared.metrics.exposition import Exposition
from shared.status import Answer, StatusServer

#: Seconds between two ticks of a beat that lives. It ticks each 10 s at the latest, and a tick may wait for the broker
#: and for Redis.
TICKS_WITHIN = 60.0


class Scheduler(RedBeatScheduler):
    """RedBeat's scheduler. On its status port it is alive, and ready, while it ticks or waits for the lock.

    Two beats may run: the lock lets one of them act, and the other takes over when the first has been silent for
    `redbeat_lock_timeout`. Waiting is healthy.
    """

    def __init__(self, app: Any, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self._ticks = False
        self._health = Health(None, alive_within=TICKS_WITHIN, ready_within=TICKS_WITHIN)
        self.status: StatusServer | None = None
        self._told: Exposition | None = None
        # Celery also makes a lazy one, in the same process, to show it at the start.
        if app.settings.status_port is not None and not kwargs.get("lazy"):
            self._told = Exposition(forks=False, refresh=lambda: READY.set(self._alive().status == HTTPStatus.OK))
            routes = {"/healthz": self._alive, "/readyz": self._alive, "/metrics": self._told.answer}
            self.status = StatusServer(app.settings.status_host, app.settings.status_port, routes)

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """Publish what is due; gives the seconds until the next look."""
        self._ticks = True
        self._health.turn()
        TICK.set(time.time())
        return super().tick(*args, **kwargs)

    def close(self) -> None:
        """As RedBeat's."""
        if self.status is not None and self._told is not None:
            self.status.close()
            self._told.close()
        super().close()

    def _alive(self) -> Answer:
        if not self._ticks and self.lock is None:
            self._health.turn()
        return self._health.ready()
