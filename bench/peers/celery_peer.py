"""Celery as it is, without this project. Source: Celery, "Optimizing"."""

import os
from typing import Any

from celery import Celery, chord
from kombu import Queue

from bench.peers import work
from bench.peers.peer import CLIENT, THROUGHPUT, Peer

_WORKER = (
    "celery -A bench.peers.celery_peer worker --queues=bench --pool={pool} --concurrency={{tasks}} --loglevel=ERROR "
    "--without-mingle --without-gossip --without-heartbeat --hostname=bench@bench"
)
PEERS = (
    Peer(
        "Celery, solo",
        "celery_peer",
        _WORKER.format(pool="solo"),
        "rabbitmq",
        ("nothing", "payload", "hash", *CLIENT),
        environ={"BENCH_PREFETCH": "1000"},
    ),
    Peer(
        "Celery, prefork",
        "celery_peer",
        _WORKER.format(pool="prefork"),
        "rabbitmq",
        ("nothing", "payload", "hash"),
        environ={"BENCH_PREFETCH": "1000"},
        note="one child",
    ),
    Peer(
        "Celery, threads",
        "celery_peer",
        _WORKER.format(pool="threads"),
        "rabbitmq",
        THROUGHPUT,
        tasks=8,
        environ={"BENCH_PREFETCH": "125"},
        note="8 threads",
    ),
)


def _app() -> Celery:
    app = Celery("bench", broker=os.environ["BENCH_RABBITMQ"], backend=os.environ["BENCH_REDIS"])
    app.conf.update(
        task_queues=[Queue("bench", queue_arguments={"x-queue-type": "quorum"} if work.quorum() else None)],
        task_default_queue="bench",
        task_default_delivery_mode=2,
        task_acks_late=True,
        worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "1")),
        # Its exchange is there already, and not as Celery would declare it.
        worker_enable_remote_control=False,
        worker_detect_quorum_queues=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"confirm_publish": "BENCH_CONFIRMS" in os.environ},
    )
    for name, (function, _) in work.TASKS.items():
        app.task(function, name=name, ignore_result=name != "payload")
    app.task(work.one, name="one")
    app.task(work.total, name="total")
    return app


app = _app()


def send(workload: str, count: int) -> None:
    """Fill the queue."""
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(count):
            app.send_task(workload, work.TASKS[workload][1], producer=producer, ignore_result=workload != "payload")


def publish(count: int) -> None:
    """By `apply_async`; confirmed where the environment says so."""
    task: Any = app.tasks["payload"]
    for _ in range(count):
        task.apply_async(("hello",), ignore_result=True)


def call() -> None:
    """There and back."""
    app.tasks["one"].delay(1).get(timeout=60)


def chord_of(parts: int) -> None:
    """Parts, and a body that gets their results."""
    one = app.tasks["one"]
    result = chord(one.s(number) for number in range(parts))(app.tasks["total"].s())
    assert result.get(timeout=60) == sum(range(parts))
