"""Where the time of a round trip goes: from the call of a task that does nothing to its result, seen from both sides.

    python -m bench.round_trip [--write]

It starts RabbitMQ and Redis itself, in Docker. One call after the other, to one worker with a solo pool, without a log
and without events of the worker. The clock is the machine's own, the same for both processes.
With `--write` the figures in docs/performance.md are replaced.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from amqp.transport import _AbstractTransport
from celery import signals

from bench import pages
from bench.peers.servers import Servers, running
from bench.waiting import PATIENCE, until
from shared.app import create_app
from shared.config import Settings
from shared.fast_lane import FastLane
from shared.publishing import Line
from shared.results.redis import RedisBackend
from shared.signatures import Declaration
from shared.tasks import implements

CALLS = 500
#: Calls before these.
WARM = 50
#: What is seen, in its order, and what it is called.
SEEN = {
    "written": "the message is written to the broker",
    "taken": "the worker has read it, and begins",
    "confirmed": "the caller has the broker's confirmation",
    "returned": "`apply_async` returns, its event on its way",
    "run": "the task has run, and its result goes to Redis",
    "result": "the caller has the result",
}


def _one() -> int:
    return 1


_task = Declaration("calculator.one", _one, keeps_result=True)
_marks: list[tuple[float, str]] = []


def _mark(name: str) -> None:
    _marks.append((time.monotonic(), name))


def _watch(owner: Any, method: str, before: str = "", after: str = "") -> None:
    """Note when a method begins and ends."""
    watched = getattr(owner, method)

    def watching(*arguments: Any, **options: Any) -> Any:
        if before:
            _mark(before)
        result = watched(*arguments, **options)
        if after:
            _mark(after)
        return result

    setattr(owner, method, watching)


if "BENCH_MARKS" in os.environ:
    _watch(FastLane, "_play", before="taken")
    _watch(RedisBackend, "_store_result", before="run")
    app = create_app("calculator")
    app.conf.update(worker_send_task_events=False)
    implements(_task, app, fast_lane=True)(_one)

    @signals.worker_shutdown.connect(weak=False)
    def _leave(**_: Any) -> None:
        Path(os.environ["BENCH_MARKS"]).write_text(json.dumps(_marks))


@contextmanager
def _worker(servers: Servers, folder: Path) -> Iterator[None]:
    environ = {"BENCH_MARKS": str(folder / "marks"), "HEALTH_FILE": str(folder / "health")}
    arguments = ["-A", "bench.round_trip", "worker", "--queues=calculator", "--pool=solo", "--loglevel=ERROR"]
    arguments += ["--without-mingle", "--without-gossip", "--without-heartbeat", "--hostname=calculator@bench"]
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", *arguments],
        env={**os.environ, **servers.environ, **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: (folder / "health").exists() or process.poll() is not None, "the worker consumes")
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def measure(servers: Servers) -> dict[str, float]:
    """Milliseconds from the call until each of `SEEN`: medians."""
    servers.clear("quorum")
    caller = create_app(settings=Settings.load(servers.environ))
    _watch(_AbstractTransport, "write", after="written")
    _watch(Line, "_insist", after="confirmed")
    with tempfile.TemporaryDirectory() as name:
        with _worker(servers, Path(name)):
            for number in range(WARM + CALLS):
                if number == WARM:
                    _marks.clear()
                _mark("called")
                answer = _task.delay()
                _mark("returned")
                answer.get(timeout=PATIENCE)
                _mark("result")
        theirs = json.loads(Path(name, "marks").read_text())
    caller.close()
    seen = sorted([*_marks, *map(tuple, theirs)])
    calls = [at for at, what in seen if what == "called"] + [float("inf")]
    after: dict[str, list[float]] = {what: [] for what in SEEN}
    for begin, end in pairwise(calls):
        # Of what is written the first is the message, and the others are events and acknowledgements.
        first: dict[str, float] = {}
        for at, what in seen[bisect_left(seen, (begin, "")) : bisect_left(seen, (end, ""))]:
            first.setdefault(what, at)
        for what in SEEN:
            after[what].append((first[what] - begin) * 1000)
    return {what: statistics.median(each) for what, each in after.items()}


def table(after: dict[str, float]) -> str:
    """The figures as a table."""
    rows = ["| after, ms | |", "|---|---|"]
    rows += [f"| {after[what]:.2f} | {SEEN[what]} |" for what in sorted(SEEN, key=after.__getitem__)]
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, quorum queue, the median of {CALLS} calls"
    return "\n".join([*rows, "", f"Measured on {machine}, {time.strftime('%Y-%m-%d')}."])


def figures() -> str:
    """What was measured."""
    with running() as servers:
        return table(measure(servers))


if __name__ == "__main__":
    pages.command("bench.round_trip", __doc__, figures)
