"""This project: the default strategy with all hooks on, and the fast lane."""

import os

from celery import chord

from bench.peers import work
from bench.peers.peer import CLIENT, THROUGHPUT, Peer
from shared.app import create_app
from shared.publish import publish_many
from shared.signatures import Declaration, calculator
from shared.tasks import implements

_WORKER = (
    "celery -A bench.peers.our_peer worker --queues=calculator --pool={pool} --concurrency={{tasks}} --loglevel=ERROR "
    "--without-mingle --without-gossip --without-heartbeat --hostname=calculator@bench"
)
PEERS = (
    Peer(
        "taskhouse, fast lane",
        "our_peer",
        _WORKER.format(pool="solo"),
        "rabbitmq",
        ("nothing", "payload", "hash", *CLIENT),
        more=6,
        environ={"BENCH_LANE": "1", "BENCH_PREFETCH": "1000", "BENCH_MANY": "1"},
        queue="calculator",
        note="solo; published by publish_many",
    ),
    Peer(
        "taskhouse, solo",
        "our_peer",
        _WORKER.format(pool="solo"),
        "rabbitmq",
        ("nothing", "payload", "hash", *CLIENT),
        environ={"BENCH_PREFETCH": "1000"},
        queue="calculator",
        note="default strategy, all hooks on",
    ),
    Peer(
        "taskhouse, threads",
        "our_peer",
        _WORKER.format(pool="threads"),
        "rabbitmq",
        THROUGHPUT,
        tasks=8,
        environ={"BENCH_PREFETCH": "125"},
        queue="calculator",
        note="8 threads",
    ),
)

app = create_app("calculator")
app.conf.update(worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "1")), worker_send_task_events=False)
_lane = "BENCH_LANE" in os.environ
_tasks = {
    name: Declaration(f"calculator.bench_{name}", function, keeps_result=name == "payload")
    for name, (function, _) in work.TASKS.items()
}
for _name, _declared in _tasks.items():
    implements(_declared, app, fast_lane=_lane)(work.TASKS[_name][0])
_one = Declaration("calculator.bench_one", work.one, keeps_result=True)
_total = Declaration("calculator.bench_total", work.total, keeps_result=True)
implements(_one, app, fast_lane=_lane)(work.one)
implements(_total, app)(work.total)


def send(workload: str, count: int) -> None:
    """Fill the queue."""
    declared, args = _tasks[workload], work.TASKS[workload][1]
    publish_many([declared(*args) for _ in range(count)], app=app, timeout=60).raise_first()


def publish(count: int) -> None:
    """At once, or one after the other; confirmed always."""
    signatures = [calculator.note("hello") for _ in range(count)]
    if "BENCH_MANY" in os.environ:
        publish_many(signatures, app=app, timeout=60).raise_first()
        return
    for one in signatures:
        one.apply_async()


def call() -> None:
    """There and back."""
    _one(1).apply_async().get(timeout=60)


def chord_of(parts: int) -> None:
    """Parts, and a body that gets their results."""
    result = chord([_one(number) for number in range(parts)], _total.s()).apply_async()
    assert result.get(timeout=60) == sum(range(parts))
