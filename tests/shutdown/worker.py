"""A calculator with a task that lasts: `celery -A tests.shutdown.worker worker`."""

import os
import time
from dataclasses import replace
from pathlib import Path

from shared import event_pace, spec
from shared.app import create_app
from shared.signatures import Declaration
from shared.tasks import implements


def _last(key: str, seconds: float) -> None: ...


#: Known to whoever imports this module, and to nobody else.
last = Declaration("calculator.last", _last, keeps_result=False)

if "EFFECTS" in os.environ:
    folder = Path(os.environ["EFFECTS"])
    spec.STOP_WITHIN = int(os.environ["STOP_WITHIN"])
    event_pace.APART = float(os.environ.get("EVENTS_APART", event_pace.APART))
    app = create_app("calculator")
    assert app.spec is not None
    app.spec = replace(app.spec, time_limit=int(os.environ["TIME_LIMIT"]))
    app.conf.update(broker_heartbeat=int(os.environ["HEARTBEAT"]), task_time_limit=app.spec.time_limit)

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
