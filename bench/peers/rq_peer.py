"""RQ on Redis, with the worker that does not fork for each job. Source: its documents, "Workers"."""

import os
import time

from redis import Redis
from rq import Queue

from bench.peers import work
from bench.peers.peer import Peer

PEERS = (
    Peer(
        "RQ",
        "rq_peer",
        "rq.cli worker --worker-class rq.SimpleWorker --url {redis} --quiet bench",
        "redis",
        ("nothing", "payload", "hash", "publish", "round_trip"),
        note="SimpleWorker",
    ),
)

_queue = Queue("bench", connection=Redis.from_url(os.environ["BENCH_REDIS"]))


def send(workload: str, count: int) -> None:
    """Fill the queue, a thousand at once."""
    function, args = work.TASKS[workload]
    for _ in range(0, count, 1000):
        _queue.enqueue_many([Queue.prepare_data(function, args, result_ttl=60) for _ in range(min(count, 1000))])


def publish(count: int) -> None:
    """One after the other."""
    for _ in range(count):
        _queue.enqueue(work.payload, "hello", result_ttl=60)


def call() -> None:
    """There and back."""
    job = _queue.enqueue(work.one, 1)
    while job.return_value() is None:
        time.sleep(0.001)
