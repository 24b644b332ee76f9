"""What metrics cost a worker: processor time per task with and without them, in turns, within one run.

    BROKER_URL=amqp://calculator@... BROKER_PASSWORD=... REDIS_URL=... python -m bench.metrics_cost

The broker must have the shipped definitions, and no other worker of `calculator`. Processor time, not throughput: on a
machine that does other things too it varies least. The second number times what is counted for one task by itself.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.waiting import PATIENCE, until, waiting
from shared.app import create_app
from shared.metrics import declared
from shared.metrics.exposition import Exposition
from shared.render.worker import worker_arguments
from shared.signatures import calculator
from shared.topology import service

TASKS = 3_000
ROUNDS = 3
QUEUE = "calculator"
#: Seconds of a worker that uses no time any more.
QUIET = 2.0


@dataclass(frozen=True)
class Cost:
    """What was measured.

    Attributes:
        off, on: seconds of processor time per task, of the whole worker: medians over the rounds.
        counting: seconds that counting one task takes by itself.
    """

    off: float
    on: float
    counting: float

    @property
    def ratio(self) -> float:
        """With metrics, as a multiple of without."""
        return self.on / self.off


def measure(tasks: int = TASKS, rounds: int = ROUNDS) -> Cost:
    """Run workers in turns, with the broker that the environment names."""
    app = create_app(current=False)
    spent: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for on in (False, True):
            spent[on].append(_processor_time(app, on, tasks) / tasks)
    return Cost(statistics.median(spent[False]), statistics.median(spent[True]), counting())


def counting(times: int = 20_000) -> float:
    """Seconds for all that is counted for one task that succeeds and publishes another one."""
    told = Exposition(forks=True)
    try:
        begun = time.perf_counter()
        for _ in range(times):
            declared.WAIT.observe(0.01, "calculator.multiply")
            declared.RUN.observe(0.01, "calculator.multiply")
            declared.TASKS.inc("calculator.multiply", "succeeded")
            declared.PUBLISHES.inc(QUEUE, "confirmed")
        return (time.perf_counter() - begun) / times
    finally:
        told.close()


def _processor_time(app: Any, on: bool, tasks: int) -> float:
    with _worker(on) as pid:
        before = _used(pid)
        with app.producer_pool.acquire(block=True) as producer:
            for number in range(tasks):
                signature = calculator.multiply(number, 2)
                app.send_task(signature.task, kwargs=signature.kwargs, producer=producer, ignore_result=True)
        until(lambda: waiting(app, QUEUE) == 0, "the queue is empty")
        last, since = _used(pid), time.monotonic()
        while time.monotonic() - since < QUIET:
            time.sleep(0.1)
            now = _used(pid)
            # A hundredth of a second and a bit: heartbeats go on.
            if now - last > 0.05:
                last, since = now, time.monotonic()
        return _used(pid) - before


@contextmanager
def _worker(on: bool) -> Iterator[int]:
    arguments = worker_arguments(replace(service(QUEUE), concurrency=(2, 2)))
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder, "ready")
        environ = {**os.environ, "HEALTH_FILE": str(ready), "LOG_LEVEL": "WARNING", "TMPDIR": folder}
        environ.pop("STATUS_PORT", None)
        if on:
            environ |= {"STATUS_PORT": "0", "STATUS_HOST": "127.0.0.1"}
        process = subprocess.Popen([sys.executable, "-m", "celery", *arguments], env=environ, stdout=subprocess.DEVNULL)
        try:
            until(lambda: ready.exists() or process.poll() is not None, "the worker consumes")
            if process.poll() is not None:
                raise SystemExit(f"the worker ended with status {process.returncode}")
            yield process.pid
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _used(pid: int) -> float:
    """Seconds of processor time of a process and its children, of those that have ended too."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ticks = 0
    for one in (str(pid), *children):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        # utime and stime, and for the main process those of children that have ended.
        ticks += sum(int(field) for field in fields[11 : 15 if one == str(pid) else 13])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print what was measured."""
    cost = measure()
    print(f"without metrics  {cost.off * 1e6:8.0f} µs of processor time a task")
    print(f"with metrics     {cost.on * 1e6:8.0f} µs, {cost.ratio:.3f} times as much")
    print(f"counting alone   {cost.counting * 1e6:8.1f} µs, {cost.counting / cost.off:.2%} of a task")


if __name__ == "__main__":
    main()
