"""Tasks that go wrong in each way that there is. They are mounted into the reporter's container by the tests alone."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from celery.exceptions import Reject, SoftTimeLimitExceeded

from services.reporter.app import app
from shared.tasks import Task

#: Seen by every container of the reporter, and kept when one dies.
FOLDER = Path("/reports/faulty")


def faulty(name: str, **options: Any) -> Any:
    """Register a task of the reporter that no contract declares."""
    return app.task(name=f"reporter.faulty.{name}", base=Task, bind=True, shared=False, **options)


@faulty("fail")
def fail(task: Task, text: str = "made to fail") -> None:
    raise ValueError(text)


@faulty("retry", autoretry_for=(ConnectionError,), max_retries=1, retry_backoff=False, default_retry_delay=1)
def retry(task: Task) -> None:
    raise ConnectionError("nobody answers")


@faulty("hang")
def hang(task: Task, stubborn: bool = False) -> None:
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        if not stubborn:
            raise
        time.sleep(60)


@faulty("slow")
def slow(task: Task) -> None:
    """Takes its time, and has its effect at the end."""
    (FOLDER / f"begun-{task.request.id}").touch()
    time.sleep(8)
    with (FOLDER / "effects").open("a") as file:
        file.write(f"{task.request.id} slow\n")


@faulty("die")
def die(task: Task) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@faulty("reject")
def reject(task: Task) -> None:
    raise Reject("unwanted", requeue=False)


@faulty("count")
def count(task: Task, text: str = "") -> None:
    """Leaves a line, once there is no file `closed`; before that it fails."""
    if (FOLDER / "closed").exists():
        raise ConnectionError("closed")
    with (FOLDER / "effects").open("a") as file:
        file.write(f"{task.request.id} {text}\n")
