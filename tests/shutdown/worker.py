"""A calculator with a task that lasts: `celery -A tests.shutdown.worker worker`."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from celery import bootsteps

from shared import event_pace, spec
from shared.app import create_app
from shared.signatures import Declaration
from shared.tasks import implements


def _last(key: str, seconds: float) -> None: ...


#: Known to whoever imports this module, and to nobody else.
last = Declaration("calculator.last", _last, keeps_result=False)


class StopUnheard(bootsteps.StartStopStep):
    """Tells the worker to stop when a process of its pool has begun a task, and was not yet heard to say so."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
        """The last thing that a turn of the loop does is to write tasks to processes."""
        write = hub.consolidate_callback

        def write_and_stop(*args: Any) -> None:
            write(*args)
            pool = consumer.pool._pool
            for job in pool._cache.values():
                # What is larger than a pipe is half written.
                while job._writer() not in pool._active_writers and not (folder / "begun").exists():
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGTERM)

        hub.consolidate_callback = write_and_stop


if "EFFECTS" in os.environ:
    folder = Path(os.environ["EFFECTS"])
    spec.STOP_WITHIN = int(os.environ["STOP_WITHIN"])
    event_pace.APART = float(os.environ.get("EVENTS_APART", event_pace.APART))
    app = create_app("calculator")
    assert app.spec is not None
    app.spec = replace(app.spec, time_limit=int(os.environ["TIME_LIMIT"]))
    app.conf.update(broker_heartbeat=int(os.environ["HEARTBEAT"]), task_time_limit=app.spec.time_limit)

    if "STOP_UNHEARD" in os.environ:
        app.steps["consumer"].add(StopUnheard)

    @implements(last, app)
    def run_last(key: str, seconds: float) -> None:
        """Begin, last, and have an effect."""
        _add(folder / "begun", key)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.01)
        _add(folder / "done", key)

    def _add(path: Path, line: str) -> None:
        with path.open("a") as file:
            file.write(f"{line}\n")
