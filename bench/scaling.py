"""Four workers beside one: tasks a second of tasks that wait 10 ms each.

    python -m bench.scaling [--write]

It starts RabbitMQ and Redis itself, in Docker. Each worker is a process of its own with one process in its pool, takes
one message at a time, and runs with all hooks on. With `--write` the figures in docs/performance.md are replaced.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench import pages
from bench.peers.servers import Servers, running
from bench.waiting import PATIENCE, until
from shared.app import create_app
from shared.config import Settings
from shared.publish import publish_many
from shared.signatures import Declaration
from shared.tasks import implements

#: Tasks for each worker, in one measurement.
TASKS = 300
WORKERS = (1, 4)
ROUNDS = 3
#: Seconds.
NAP = 0.01


def _nothing() -> None: ...


_task = Declaration("calculator.nap", _nothing, keeps_result=False)


def napper(folder: Path) -> Callable[[], None]:
    """A task that waits, and notes when its process began the first one, when it ended this one, and their number."""
    began, count = 0.0, 0

    def nap() -> None:
        nonlocal began, count
        began = began or time.monotonic()
        time.sleep(NAP)
        count += 1
        path = folder / f"{os.getpid()}"
        path.with_suffix(".new").write_text(f"{began} {time.monotonic()} {count}")
        path.with_suffix(".new").rename(path.with_suffix(".done"))

    return nap


if "BENCH_FOLDER" in os.environ:
    app = create_app("calculator")
    app.conf.update(worker_send_task_events=False)
    implements(_task, app)(napper(Path(os.environ["BENCH_FOLDER"])))


def measure(servers: Servers, workers: int) -> float:
    """Tasks a second of so many workers, from the first one's begin to the last one's end."""
    servers.clear("quorum")
    publisher = create_app(settings=Settings.load(servers.environ), current=False)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        for number in range(workers):
            stack.enter_context(_worker(servers, folder, number))
        until(lambda: len(list(folder.glob("*.health"))) == workers, "the workers consume")
        publish_many([_task() for _ in range(TASKS * workers)], app=publisher, timeout=60).raise_first()

        def done() -> list[tuple[float, float, float]]:
            told = (tuple(map(float, path.read_text().split())) for path in folder.glob("*.done"))
            return [(began, ended, count) for began, ended, count in told]

        until(lambda: sum(count for *_, count in done()) >= TASKS * workers, "the tasks are done")
        found = done()
    publisher.close()
    return TASKS * workers / (max(ended for _, ended, _ in found) - min(began for began, *_ in found))


class _worker:
    """A worker, until the block ends."""

    def __init__(self, servers: Servers, folder: Path, number: int) -> None:
        environ = {"BENCH_FOLDER": str(folder), "HEALTH_FILE": str(folder / f"{number}.health")}
        arguments = ["-A", "bench.scaling", "worker", "--queues=calculator", "--pool=prefork", "--concurrency=1"]
        arguments += ["--loglevel=ERROR", "--without-mingle", "--without-gossip", f"--hostname=calculator@{number}"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "celery", *arguments],
            env={**os.environ, **servers.environ, **environ},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)


def figures() -> str:
    """What was measured."""
    rates: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    with running() as servers:
        for _ in range(ROUNDS):
            for workers in WORKERS:
                rates[workers].append(measure(servers, workers))
    one = statistics.median(rates[1])
    lines = ["| workers | tasks a second, median (least, most) | of as many times one worker's |", "|---|---|---|"]
    for workers, found in rates.items():
        middle = statistics.median(found)
        spread = f"{min(found):,.0f}, {max(found):,.0f}"
        lines.append(f"| {workers} | {middle:,.0f} ({spread}) | {middle / one / workers:.0%} |")
    machine = f"{os.cpu_count()} cores, tasks of {NAP * 1000:g} ms, {TASKS} for each worker × {ROUNDS}"
    return "\n".join([*lines, "", f"Measured on {machine}, {time.strftime('%Y-%m-%d')}."])


if __name__ == "__main__":
    pages.command("bench.scaling", __doc__, figures)
