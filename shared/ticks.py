"""One tick of the schedule has one id, whichever beat publishes it."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from celery.schedules import crontab, schedule

#: Of all ids that are made here.
NAMESPACE = UUID("6f1a6f0e-7d0e-5d0c-9a53-0c4f2b8c5e11")
#: How far to look back for the latest time that a crontab names; the last covers 29 February.
_LOOKS_BACK = tuple(timedelta(days=days) for days in (1 / 1440, 1 / 24, 1, 31, 366, 8 * 366))


def due(when: schedule, now: datetime) -> datetime:
    """The time that the tick belongs to which is published at `now`: the latest that `when` names.

    An interval (`every`, in seconds) names the multiples of its length since 1970; its ticks are at least that far
    apart, so no two have the same.
    """
    if isinstance(when, crontab):
        return _latest(when, now)
    every = when.run_every.total_seconds()
    return datetime.fromtimestamp(now.timestamp() // every * every, UTC)


def task_id(entry: str, when: schedule, now: datetime) -> str:
    """The id of the task that the entry called `entry` publishes at `now`.

    Two beats that both publish a tick give it the same id, so an effect with the task's id as its key, like a mail of
    a digest, happens once.
    """
    return str(uuid5(NAMESPACE, f"{entry}@{due(when, now).astimezone(UTC).isoformat()}"))


def followers(links: Iterable[Mapping[str, Any]], task_id: str) -> list[dict[str, Any]]:
    """`links`, the signatures of what follows the task `task_id`, each with an id that follows from that one."""
    return [
        {**link, "options": {**(link.get("options") or {}), "task_id": str(uuid5(UUID(task_id), str(number)))}}
        for number, link in enumerate(links)
    ]


def _latest(when: crontab, now: datetime) -> datetime:
    for back in _LOOKS_BACK:
        found, at = None, now - back
        while (at := _after(when, at)) <= now:
            found = at
        if found is not None:
            return found
    return now.replace(second=0, microsecond=0)


def _after(when: crontab, at: datetime) -> datetime:
    last, delta, _ = when.remaining_delta(at)
    return last + delta
