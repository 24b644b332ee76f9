"""In the chaos cases, what beat runs: the publisher's app, with a tick a second or so that is counted."""

import os
from typing import Any

from redbeat import RedBeatScheduler

from shared.app import app
from shared.beat import Scheduler

WITHOUT = frozenset(os.environ.get("CHAOS_WITHOUT", "").split(","))

app.conf.update(
    beat_schedule={
        "chaos": {
            "task": "calculator.chaos.tick",
            "schedule": float(os.environ.get("CHAOS_EVERY") or 1),
            "options": {"ignore_result": True},
        }
    },
    # So that a case need not wait a minute for the other beat to take over.
    redbeat_lock_timeout=5,
    beat_max_loop_interval=1,
)
if "lock" in WITHOUT:
    app.conf.redbeat_lock_key = None
if "tick_id" in WITHOUT:
    app.conf.beat_scheduler = "tests.chaos.inside.beat:Unkeyed"


class Unkeyed(Scheduler):
    """Gives each publish an id of its own, as RedBeat does."""

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        return RedBeatScheduler.apply_async(self, entry, producer=producer, advance=advance, **kwargs)
