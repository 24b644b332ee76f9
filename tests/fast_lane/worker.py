"""A calculator whose tasks may take the fast lane: `celery -A tests.fast_lane.worker worker`."""

import os
import signal
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from celery import signals
from celery.exceptions import Reject

from shared import scope
from shared.app import create_app
from shared.errors import Retryable
from shared.fast_lane import FastLane
from shared.signatures import Declaration
from shared.tasks import implements

#: Messages that a worker may hold: two batches.
PREFETCH = 100


def _effect(key: str) -> str:
    raise NotImplementedError


def _told(key: str) -> dict[str, Any]:
    raise NotImplementedError


def _fail(key: str) -> None: ...
def _refuse(key: str) -> None: ...
def _again(key: str) -> str:
    raise NotImplementedError


def _day(key: str, day: date) -> str:
    raise NotImplementedError


def _early(key: str) -> bool:
    raise NotImplementedError


def _poison(key: str) -> None: ...
def _last(key: str, seconds: float) -> None: ...


# Known to whoever imports this module, and to nobody else.
effect = Declaration("calculator.effect", _effect, keeps_result=True)
told = Declaration("calculator.told", _told, keeps_result=True)
fail = Declaration("calculator.fail", _fail, keeps_result=True)
refuse = Declaration("calculator.refuse", _refuse, keeps_result=True)
again = Declaration("calculator.again", _again, keeps_result=True)
day = Declaration("calculator.day", _day, keeps_result=True)
early = Declaration("calculator.early", _early, keeps_result=True)
poison = Declaration("calculator.poison", _poison, keeps_result=False)
last = Declaration("calculator.last", _last, keeps_result=False)


def _in_lane() -> bool:
    frame = sys._getframe()
    while (above := frame.f_back) is not None and frame.f_code is not FastLane.take.__code__:
        frame = above
    return frame.f_code is FastLane.take.__code__


if "EFFECTS" in os.environ:
    folder = Path(os.environ["EFFECTS"])
    fast = os.environ["FAST"] == "yes"
    app = create_app("calculator")
    app.conf.update(worker_prefetch_multiplier=PREFETCH)

    def _add(key: str) -> None:
        with (folder / "effects").open("a") as file:
            file.write(f"{key}\n")

    @signals.task_postrun.connect(weak=False)
    def _ended(sender: Any, state: str, retval: Any, **_: Any) -> None:
        with (folder / "ended").open("a") as file:
            file.write(f"{sender.name} {state} {type(retval).__name__}\n")

    @implements(effect, app, fast_lane=fast)
    def run_effect(key: str) -> str:
        """One line."""
        _add(key)
        return key

    @implements(told, app, fast_lane=fast, bind=True)
    def run_told(task: Any, key: str) -> dict[str, Any]:
        """What a task knows of itself."""
        request = task.request
        return {
            "id": request.id,
            "root": request.root_id,
            "retries": request.retries,
            "scope": scope.current(),
            "kwargs": request.kwargs,
            "routing_key": request.delivery_info["routing_key"],
            "headers": sorted(request.headers or {}),
            "lane": _in_lane(),
        }

    @implements(fail, app, fast_lane=fast)
    def run_fail(key: str) -> None:
        """Raise."""
        raise ValueError(f"made to fail: {key}")

    @implements(refuse, app, fast_lane=fast)
    def run_refuse(key: str) -> None:
        """Give the message up."""
        raise Reject("unwanted", requeue=False)

    @implements(again, app, fast_lane=fast, bind=True, retry_backoff=False)
    def run_again(task: Any, key: str) -> str:
        """Succeed at the second attempt."""
        _add(key)
        if task.request.retries == 0:
            raise task.retry(exc=Retryable("again"), countdown=1)
        return key

    @implements(day, app, fast_lane=fast)
    def run_day(key: str, day: date) -> str:
        """An argument that JSON alone does not know."""
        return day.isoformat()

    @implements(early, app, fast_lane=fast, acks_late=False)
    def run_early(key: str) -> bool:
        """Whether what may never run twice is in the lane all the same."""
        return _in_lane()

    @implements(poison, app, fast_lane=fast)
    def run_poison(key: str) -> None:
        """End the process, as a fault in a C library does."""
        _add(key)
        os.kill(os.getpid(), signal.SIGKILL)

    @implements(last, app)
    def run_last(key: str, seconds: float) -> None:
        """Never in the lane; it takes its time."""
        _add(f"begun-{key}")
        time.sleep(seconds)
        _add(key)
