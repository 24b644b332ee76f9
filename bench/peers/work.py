"""What the tasks do, the same for every peer, and the clock that stands in the worker.

A task's time is not taken by whoever waits for it: the worker writes how many it did a second, from the first to the
last.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from threading import Lock
from typing import Any

#: 1 kB, there and back.
TEXT = "x" * 1000
#: Seconds.
NAP = 0.01
_MEGABYTE = b"x" * 2**20

_lock = Lock()
_done, _began = 0, 0.0


def _tick() -> None:
    global _done, _began
    with _lock:
        if not _done:
            _began = time.perf_counter()
        _done += 1
        if str(_done) == os.environ.get("BENCH_TASKS"):
            Path(os.environ["BENCH_RATE"]).write_text(str((_done - 1) / (time.perf_counter() - _began)))


def nothing() -> None:
    """Nothing."""
    _tick()


def payload(text: str) -> str:
    """Take 1 kB, and give it back."""
    _tick()
    return text


def sleep() -> None:
    """Wait, as for a server."""
    time.sleep(NAP)
    _tick()


def digest() -> str:
    """Work."""
    found = hashlib.sha256(_MEGABYTE).hexdigest()
    _tick()
    return found


def total(numbers: list[int]) -> int:
    """The body of a chord."""
    return sum(numbers)


def one(number: int) -> int:
    """A part of a chord, and what a round trip calls."""
    return number


async def nap() -> None:
    """As `sleep`, in a loop."""
    await asyncio.sleep(NAP)
    _tick()


#: The function of each workload, and its arguments.
TASKS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "nothing": (nothing, ()),
    "payload": (payload, (TEXT,)),
    "sleep": (sleep, ()),
    "hash": (digest, ()),
}


def in_a_loop(workload: str) -> Callable[..., Awaitable[Any]]:
    """The workload's function for a peer that runs a loop."""
    if workload == "sleep":
        return nap
    function = TASKS[workload][0]

    if workload == "payload":

        async def run_payload(text: str) -> Any:
            return function(text)

        return run_payload

    async def run() -> Any:
        return function()

    return run


def quorum() -> bool:
    """Whether this run's queue is a quorum queue."""
    return os.environ.get("BENCH_QUEUE") == "quorum"
