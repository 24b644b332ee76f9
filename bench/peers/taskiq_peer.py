"""taskiq with taskiq-aio-pika. Source: taskiq's documents, "CLI", "Available brokers"."""

import asyncio
import os
from typing import Any

from taskiq_aio_pika import AioPikaBroker
from taskiq_aio_pika.queue import Queue, QueueType
from taskiq_redis import RedisAsyncResultBackend

from bench.peers import work
from bench.peers.peer import THROUGHPUT, Peer

PEERS = (
    Peer(
        "taskiq",
        "taskiq_peer",
        "taskiq worker bench.peers.taskiq_peer:broker --workers 1 --max-async-tasks {tasks} --ack-type when_executed "
        "--no-configure-logging",
        "rabbitmq",
        (*THROUGHPUT, "publish", "round_trip"),
        tasks=100,
        note="one loop",
    ),
)

_queue = Queue(name="bench", type=QueueType.QUORUM if work.quorum() else QueueType.CLASSIC)
broker: Any = AioPikaBroker(os.environ["BENCH_RABBITMQ"], qos=1000, task_queues=[_queue])
if "BENCH_RESULTS" in os.environ:
    broker = broker.with_result_backend(RedisAsyncResultBackend(os.environ["BENCH_REDIS"]))
_tasks = {name: broker.register_task(work.in_a_loop(name), task_name=name) for name in work.TASKS}


async def _one(number: int) -> int:
    return work.one(number)


_call = broker.register_task(_one, task_name="one")
_loop: asyncio.AbstractEventLoop | None = None


def _run(what: Any) -> Any:
    global _loop
    if _loop is None:
        _loop = asyncio.new_event_loop()
        _loop.run_until_complete(broker.startup())
    return _loop.run_until_complete(what)


async def _many(workload: str, args: tuple[Any, ...], count: int) -> None:
    # A hundred at once, as a server that publishes for its clients does.
    for _ in range(0, count, 100):
        await asyncio.gather(*(_tasks[workload].kiq(*args) for _ in range(100)))


def send(workload: str, count: int) -> None:
    """Fill the queue."""
    _run(_many(workload, work.TASKS[workload][1], count))


def publish(count: int) -> None:
    """A hundred at once; aio-pika waits for confirms."""
    _run(_many("payload", ("hello",), count))


async def _there_and_back() -> None:
    await (await _call.kiq(1)).wait_result(check_interval=0.001, timeout=30)


def call() -> None:
    """There and back."""
    _run(_there_and_back())
