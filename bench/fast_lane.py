"""The fast lane beside plain Celery: tasks a second of one process that does nothing else, in turns, within one run.

    python -m bench.fast_lane [--write]

It starts RabbitMQ and Redis itself, in Docker. The queue is filled first, and the time is taken in the worker, from the
first task to the last: solo pool, no log, no events.
With `--write` the figures in docs/performance.md are replaced.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery
from kombu import Queue

from bench import pages
from bench.peers.servers import running
from bench.waiting import PATIENCE, until, waiting
from shared.app import create_app
from shared.config import Settings
from shared.publish import publish_many
from shared.signatures import Declaration
from shared.tasks import implements

TASKS = 20_000
ROUNDS = 3
QUEUE = "calculator"
PREFETCH = 1000
#: What is measured, and what it is called.
KINDS = {
    "plain": "Celery, solo pool",
    "ordinary": "a task of ours, all hooks on",
    "lane": "the same in the fast lane",
}


def _nothing() -> None: ...


_task = Declaration("calculator.nothing", _nothing, keeps_result=False)


def counter() -> Callable[[], None]:
    """A task that does nothing, and after the last one writes how many there were a second."""
    target, wanted, began, count = Path(os.environ["BENCH_RATE"]), int(os.environ["BENCH_TASKS"]), 0.0, 0

    def nothing() -> None:
        nonlocal began, count
        if count == 0:
            began = time.perf_counter()
        count += 1
        if count == wanted:
            target.write_text(str((wanted - 1) / (time.perf_counter() - began)))

    return nothing


def _plain() -> Celery:
    settings = Settings.load()
    app = Celery("plain", broker=settings.broker_urls())
    app.conf.update(
        task_queues=[Queue(QUEUE, no_declare=True)],
        task_create_missing_queues=False,
        task_ignore_result=True,
        task_acks_late=True,
        worker_prefetch_multiplier=PREFETCH,
        # Its exchange is there already, and not as Celery would declare it.
        worker_enable_remote_control=False,
        worker_detect_quorum_queues=False,
        broker_connection_retry_on_startup=True,
    )
    app.task(counter(), name="calculator.nothing")
    return app


def _ours(fast_lane: bool) -> Celery:
    app = create_app("calculator")
    app.conf.update(worker_prefetch_multiplier=PREFETCH, worker_send_task_events=False)
    implements(_task, app, fast_lane=fast_lane)(counter())
    return app


if kind := os.environ.get("BENCH_KIND"):
    app = _plain() if kind == "plain" else _ours(kind == "lane")


def _publish_plain(publisher: Any, tasks: int) -> None:
    # As Celery's own publisher sends it, but for the wait for each confirmation.
    as_sent, where = publisher.amqp.as_task_v2, {"exchange": "tasks", "routing_key": "calculator.nothing"}
    with (
        publisher.connection_for_write(transport_options={"confirm_publish": False}) as connection,
        publisher.amqp.Producer(connection, auto_declare=False) as producer,
    ):
        for number in range(tasks):
            message = as_sent(f"plain-{number}", "calculator.nothing", (), {}, ignore_result=True)
            producer.publish(message.body, headers=message.headers, delivery_mode=2, **where)


def _publish_ours(publisher: Any, tasks: int) -> None:
    publish_many([_task() for _ in range(tasks)], app=publisher, timeout=60).raise_first()


def measure(publisher: Any, kind: str, tasks: int) -> float:
    """Tasks a second of one worker."""
    with publisher.connection_for_write() as connection:
        # What a worker had not acknowledged when it was ended.
        connection.default_channel.queue_purge(QUEUE)
    (_publish_plain if kind == "plain" else _publish_ours)(publisher, tasks)
    until(lambda: waiting(publisher, QUEUE) >= tasks, "the queue is full")
    with tempfile.TemporaryDirectory() as folder:
        rate = Path(folder, "rate")
        environ = {**os.environ, "BENCH_KIND": kind, "BENCH_RATE": str(rate), "BENCH_TASKS": str(tasks)}
        if kind == "plain":
            # Celery's command takes the URL from there, and knows no other variable for its password.
            environ["BROKER_URL"] = publisher.settings.broker_urls()
            for name in ("BROKER_PASSWORD", "BROKER_PASSWORD_FILE"):
                environ.pop(name, None)
        arguments = ["-A", "bench.fast_lane", "worker", f"--queues={QUEUE}", "--pool=solo", "--loglevel=ERROR"]
        arguments += ["--without-mingle", "--without-gossip", "--without-heartbeat", "--hostname=calculator@bench"]
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", *arguments],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: rate.exists() or worker.poll() is not None, "the tasks are done")
            if not rate.exists():
                raise SystemExit(f"the worker ended with status {worker.returncode}")
        finally:
            worker.terminate()
            worker.wait(PATIENCE)
        return float(rate.read_text())


def table(rates: dict[str, list[float]]) -> str:
    """The figures as a table: median, spread, and how many times plain Celery's."""
    plain = statistics.median(rates["plain"])
    rows = ["| one process | tasks a second, median (least, most) | times plain Celery |", "|---|---|---|"]
    for kind, name in KINDS.items():
        middle = statistics.median(rates[kind])
        spread = f"{min(rates[kind]):,.0f}, {max(rates[kind]):,.0f}"
        rows.append(f"| {name} | {middle:,.0f} ({spread}) | {middle / plain:.2f} |")
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, quorum queue, {TASKS:,} tasks × {ROUNDS}"
    return "\n".join([*rows, "", f"Measured on {machine}, {time.strftime('%Y-%m-%d')}."])


def figures() -> str:
    """What was measured."""
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with running() as servers:
        os.environ.update(servers.environ)
        publisher = create_app(current=False)
        for _ in range(ROUNDS):
            for kind in KINDS:
                rates[kind].append(measure(publisher, kind, TASKS))
    return table(rates)


if __name__ == "__main__":
    pages.command("bench.fast_lane", __doc__, figures)
