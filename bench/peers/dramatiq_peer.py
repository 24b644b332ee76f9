"""dramatiq. Source: its guide, "Advanced Topics", and its RabbitmqBroker."""

import os
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from bench.peers import work
from bench.peers.peer import THROUGHPUT, Peer

_WORKER = "dramatiq bench.peers.dramatiq_peer --processes 1 --threads {tasks} --queues bench --skip-logging"
PEERS = (
    Peer(
        "dramatiq",
        "dramatiq_peer",
        _WORKER,
        "rabbitmq",
        (*THROUGHPUT, "publish", "round_trip"),
        tasks=8,
        note="8 threads",
    ),
    # As it publishes unless told otherwise: what the broker does not take is lost in silence.
    Peer(
        "dramatiq, without confirms",
        "dramatiq_peer",
        _WORKER,
        "rabbitmq",
        ("publish",),
        environ={"BENCH_UNCONFIRMED": "1"},
    ),
)


class Broker(RabbitmqBroker):
    """With the kind of queue that this run is about."""

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        arguments: dict[str, Any] = super()._build_queue_arguments(queue_name)
        return {**arguments, "x-queue-type": "quorum"} if work.quorum() else arguments


# pika takes `//` for a virtual host without a name.
_url = os.environ["BENCH_RABBITMQ"].removesuffix("//") + "/%2F"
_confirms = "BENCH_CONFIRMS" in os.environ and "BENCH_UNCONFIRMED" not in os.environ
broker = Broker(url=_url, confirm_delivery=_confirms)
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["BENCH_REDIS"])))
dramatiq.set_broker(broker)
_actors = {
    name: dramatiq.actor(function, actor_name=name, queue_name="bench", store_results=name == "payload")
    for name, (function, _) in work.TASKS.items()
}
_one = dramatiq.actor(work.one, actor_name="one", queue_name="bench", store_results=True)


def send(workload: str, count: int) -> None:
    """Fill the queue."""
    for _ in range(count):
        _actors[workload].send(*work.TASKS[workload][1])


def publish(count: int) -> None:
    """One after the other."""
    for _ in range(count):
        _actors["payload"].send("hello")


def call() -> None:
    """There and back."""
    _one.send(1).get_result(block=True, timeout=30_000)
