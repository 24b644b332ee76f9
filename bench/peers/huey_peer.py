"""huey on Redis. Source: its documents, "Consuming Tasks"."""

import os

from huey import RedisHuey

from bench.peers import work
from bench.peers.peer import THROUGHPUT, Peer

PEERS = (
    Peer(
        "huey",
        "huey_peer",
        "huey.bin.huey_consumer bench.peers.huey_peer.huey --workers {tasks} --worker-type thread --quiet "
        "--no-periodic --delay 0.01",
        "redis",
        (*THROUGHPUT, "publish", "round_trip"),
        tasks=8,
        note="8 threads",
    ),
)

huey = RedisHuey("bench", url=os.environ["BENCH_REDIS"], blocking=True)
_tasks = {name: huey.task(name=name)(function) for name, (function, _) in work.TASKS.items()}
_one = huey.task(name="one")(work.one)


def send(workload: str, count: int) -> None:
    """Fill the queue."""
    for _ in range(count):
        _tasks[workload](*work.TASKS[workload][1])


def publish(count: int) -> None:
    """One after the other."""
    for _ in range(count):
        _tasks["payload"]("hello")


def call() -> None:
    """There and back."""
    _one(1)(blocking=True, timeout=30, backoff=1, max_delay=0.001)
