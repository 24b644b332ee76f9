"""The schedule in Redis, one beat at a time, with a sign of health."""

import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from celery.schedules import schedule
from redbeat import RedBeatScheduler, RedBeatSchedulerEntry
from redbeat.schedulers import get_redis

from shared import ticks

#: Seconds between two signs of a beat that waits for another one's lock.
WAITING_INTERVAL = 2.0


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
    """RedBeat's scheduler. It makes the file `HEALTH_FILE` at each tick, and while it waits for the lock.

    Two beats may run: the lock lets one of them act, and the other takes over when the first has been silent for
    `redbeat_lock_timeout`. Waiting is healthy. Should both act all the same, because Redis lost the lock, they give
    each tick the same id.
    """

    Entry = Entry

    def __init__(self, app: Any, **kwargs: Any) -> None:
        self._health: Path | None = app.settings.health_file
        super().__init__(app, **kwargs)
        if self._health is not None and not kwargs.get("lazy"):
            threading.Thread(target=self._sign_while_waiting, daemon=True).start()

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """Publish what is due; gives the seconds until the next look."""
        self._sign()
        return super().tick(*args, **kwargs)

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        """Publish the tick of `entry`, with the id that it has from any beat."""
        # The entry is this tick's own: the scheduler reads it from Redis each time, and never writes its options back.
        entry.options = keyed(entry.options, entry.name, entry.schedule, self.app.now())
        return super().apply_async(entry, producer=producer, advance=advance, **kwargs)

    def _sign_while_waiting(self) -> None:
        pause = threading.Event()
        while self.lock is None:
            self._sign()
            pause.wait(WAITING_INTERVAL)

    def _sign(self) -> None:
        if self._health is not None:
            self._health.touch()


def keyed(options: Mapping[str, Any], entry: str, when: schedule, now: datetime) -> dict[str, Any]:
    """The options with which `entry` is published at `now`: its own, and ids for it and for what follows it."""
    task_id = ticks.task_id(entry, when, now)
    links = options.get("link")
    return {**options, "task_id": task_id, **({"link": ticks.followers(links, task_id)} if links else {})}
