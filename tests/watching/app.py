"""The calculator's worker with tasks and a command that the tests of its health and its metrics need."""

import os
import time
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


@app.task(name="calculator.pids", base=Task, shared=False, ignore_result=False)
def pid() -> int:
    return os.getpid()
