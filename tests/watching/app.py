"""The calculator's worker with tasks and a command that the tests of its health and its metrics need."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from celery.worker.control import control_command

from services.calculator.app import app
from shared.errors import Retryable
from shared.tasks import Task

assert app.conf.include == ["services.calculator.tasks"]


class Later(Retryable):
    """Asked for."""


@control_command()
def lose_consumer(state: Any, **_: Any) -> None:
    """Have the broker forget the consumer, behind the back of kombu's own record."""
    channel = state.consumer.task_consumer.channel
    for tag in list(channel.callbacks):
        channel.basic_cancel(tag)


@app.task(name="calculator.sleep", base=Task, shared=False)
def sleep(seconds: float) -> None:
    time.sleep(seconds)


@app.task(name="calculator.die", base=Task, shared=False)
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="calculator.now", base=Task, shared=False, ignore_result=False)
def now() -> float:
    return time.time()


@app.task(name="calculator.follow", base=Task, shared=False)
def follow() -> None:
    tell("followed")


@app.task(
    name="calculator.chance",
    base=Task,
    shared=False,
    bind=True,
    autoretry_for=(Later,),
    retry_backoff=False,
    default_retry_delay=0,
)
def chance(task: Task, number: int) -> None:
    """One in fifty fails, one in seven needs two attempts, one in thirteen calls another task."""
    if number % 50 == 0:
        tell("failed")
        raise ValueError(number)
    if number % 7 == 0 and task.request.retries == 0:
        tell("retried")
        raise Later("once more")
    if number % 13 == 0:
        follow.delay()
    tell("succeeded")


def tell(what: str) -> None:
    """Write down what happens, where no metric has a part in it: a byte more in a file is a count more."""
    with Path(os.environ["TELL"], what).open("ab") as file:
        file.write(b".")
