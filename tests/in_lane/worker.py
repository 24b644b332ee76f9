"""Loaded by a worker beside its tasks: each of them takes the fast lane, and what it takes is counted.

`CELERY_WORKER_INCLUDE=tests.in_lane.worker` has `celery worker` load it; `LANE_TALLY` names the folder of the count.
"""

import os
from pathlib import Path
from typing import Any

from celery import signals

from shared.fast_lane import FastLane
from shared.tasks import Task


@signals.celeryd_after_setup.connect(weak=False, dispatch_uid="in-lane")
def _open(instance: Any, **_: Any) -> None:
    for task in instance.app.tasks.values():
        # Celery's own, and whatever `@implements` could not have said it of, stay where they are.
        if isinstance(task, Task):
            task.Strategy = "shared.fast_lane:strategy"


def _counted(play: Any, tally: int) -> Any:
    def counted(self: FastLane, *args: Any) -> None:
        # A byte a message: a worker that is killed has told of each that it took.
        os.write(tally, b".")
        play(self, *args)

    return counted


if folder := os.environ.get("LANE_TALLY"):
    path = Path(folder) / f"lane-{os.uname().nodename}-{os.getpid()}"
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
    FastLane._play = _counted(FastLane._play, descriptor)  # type: ignore[method-assign]


def taken(folder: Path) -> int:
    """Messages that the lane has taken, of all workers that counted there."""
    return sum(path.stat().st_size for path in folder.glob("lane-*"))
