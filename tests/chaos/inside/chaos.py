"""Tasks whose attempts and effects stand in the ledger. They are mounted into each service by the chaos cases alone."""

import importlib
import os
import signal
import socket
import time
from typing import Any

from shared.tasks import Task
from tests.chaos.inside.client import Ledger

assert __package__
service = __package__.rpartition(".")[2]
# Of this service, whichever it is.
own = importlib.import_module(f"{__package__}.app")
GUARDED = "effect_key" not in own.WITHOUT
#: Each process of the pool makes its own connection, at its first task.
ledger = Ledger(os.environ["LEDGER"])
BLOCK = 16 * 2**20


def chaos(name: str, **options: Any) -> Any:
    """Register a task of this service that no contract declares."""
    return own.app.task(name=f"{service}.chaos.{name}", base=Task, bind=True, shared=False, **options)


@chaos("effect")
def effect(task: Task, seconds: float = 0.0, ballast: str = "") -> None:
    """Works for a while; its effect has the task's id as its key."""
    work(task.request.id, seconds)


@chaos("part", ignore_result=False)
def part(task: Task, seconds: float = 0.0) -> int:
    """One of a chord's."""
    work(task.request.id, seconds)
    return 1


@chaos("body", ignore_result=False)
def body(task: Task, parts: list[int]) -> int:
    """What a chord ends in."""
    work(task.request.id, 0.0)
    return sum(parts)


@chaos("tick")
def tick(task: Task) -> None:
    """Published by beat, which no case can tell its keys."""
    work(f"tick-{task.request.id}", 0.0)


@chaos("poison")
def poison(task: Task) -> None:
    """Kills its own process, each time."""
    ledger.begin(task.request.id, socket.gethostname())
    os.kill(os.getpid(), signal.SIGKILL)


@chaos("hungry")
def hungry(task: Task) -> None:
    """Takes memory until the kernel ends it."""
    ledger.begin(task.request.id, socket.gethostname())
    taken = []
    while True:
        taken.append(b"x" * BLOCK)


def work(key: str, seconds: float) -> None:
    """An attempt, and its effect at the end."""
    ledger.begin(key, socket.gethostname())
    time.sleep(seconds)
    ledger.effect(key, guarded=GUARDED)
