"""The schedule in Redis, one beat at a time, with a sign of health."""

import logging
import time
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from threading import Thread
from typing import Any

from celery.schedules import schedule
from redbeat import RedBeatScheduler, RedBeatSchedulerEntry
from redbeat.schedulers import get_redis
from redis.exceptions import RedisError

from shared import ticks
from shared.health import Health
from shared.metrics.declared import READY, TICK
from shared.metrics.exposition import Exposition
from shared.status import Answer, StatusServer

#: Seconds between two ticks of a beat that lives. It ticks each 10 s at the latest, and a tick may wait for the broker
#: and for Redis.
TICKS_WITHIN = 60.0
#: Seconds that a beat which stops gives Redis to take the lock back: less than its container has until it is killed.
RELEASE_WITHIN = 3.0

logger = logging.getLogger(__name__)


class Entry(RedBeatSchedulerEntry):
    """RedBeat's entry; to save it never puts its next look off.

    Each beat saves what stands in the topology when it starts, before it waits for the lock, and RedBeat notes its own
    clock's time as the next one. A clock that is ahead would silence the beat that acts for as long. To look too early
    does no harm: whether the tick is due is asked again.
    """

    def save(self) -> "Entry":
        """Store it in Redis."""
        client, schedule_key = get_redis(self.app), self.app.redbeat_conf.schedule_key
        before = client.zscore(schedule_key, self.key)
        super().save()
        if before is not None and 0 <= before < client.zscore(schedule_key, self.key):
            client.zadd(schedule_key, {self.key: before})
        return self


class Scheduler(RedBeatScheduler):
    """RedBeat's scheduler. On its status port it is alive, and ready, while it ticks or waits for the lock.

    Two beats may run: the lock lets one of them act, and the other takes over when the first has been silent for
    `redbeat_lock_timeout`. Waiting is healthy. Should both act all the same, because Redis lost the lock, they give
    each tick the same id.
    """

    Entry = Entry
    #: Held by the beat that acts; None before, and after it was given back.
    lock: Any = None

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

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        """Publish the tick of `entry`, with the id that it has from any beat."""
        # The entry is this tick's own: the scheduler reads it from Redis each time, and never writes its options back.
        entry.options = keyed(entry.options, entry.name, entry.schedule, self.app.now())
        return super().apply_async(entry, producer=producer, advance=advance, **kwargs)

    def close(self) -> None:
        """As RedBeat's, which waits for a Redis that is away until it is killed."""
        if self.status is not None and self._told is not None:
            self.status.close()
            self._told.close()
        lock, self.lock = self.lock, None
        if lock is not None:
            releasing = Thread(target=_release, args=(lock, lock.local.token), name="release", daemon=True)
            releasing.start()
            releasing.join(RELEASE_WITHIN)
        super().close()

    def _alive(self) -> Answer:
        if not self._ticks and self.lock is None:
            self._health.turn()
        return self._health.ready()


def _release(lock: Any, token: bytes) -> None:
    logger.info("beat: Releasing lock")
    # What shows whose the lock is belongs to the thread that took it.
    lock.local.token = token
    try:
        if lock.owned():
            lock.release()
    except RedisError as error:
        logger.warning("beat: Redis does not take the lock back: the next beat waits until it is over: %s", error)


def keyed(options: Mapping[str, Any], entry: str, when: schedule, now: datetime) -> dict[str, Any]:
    """The options with which `entry` is published at `now`: its own, and ids for it and for what follows it."""
    task_id = ticks.task_id(entry, when, now)
    links = options.get("link")
    return {**options, "task_id": task_id, **({"link": ticks.followers(links, task_id)} if links else {})}
