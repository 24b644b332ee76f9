"""FastStream on RabbitMQ: handlers of messages, no results. Source: its documents, "RabbitMQ routing"."""

import asyncio
import os
from typing import Any

from faststream import FastStream
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

from bench.peers import work
from bench.peers.peer import THROUGHPUT, Peer

PEERS = (
    Peer(
        "FastStream",
        "faststream_peer",
        "faststream run bench.peers.faststream_peer:app --workers 1 --log-level error",
        "rabbitmq",
        (*THROUGHPUT, "publish"),
        tasks=100,
        note="one loop",
    ),
)

broker = RabbitBroker(os.environ["BENCH_RABBITMQ"], logger=None)
app = FastStream(broker)
_durable: dict[str, Any] = {"durable": True}
_queue = RabbitQueue("bench", queue_type=QueueType.QUORUM if work.quorum() else QueueType.CLASSIC, **_durable)
_workload = os.environ.get("BENCH_WORKLOAD", "nothing")
_prefetch = 100 if _workload == "sleep" else 1000


@broker.subscriber(_queue, channel=Channel(prefetch_count=_prefetch))
async def run(body: list[Any]) -> None:
    """Do what the message's workload is."""
    await work.in_a_loop(_workload)(*body)


async def _many(args: tuple[Any, ...], count: int) -> None:
    await broker.connect()
    await broker.declare_queue(_queue)
    for _ in range(0, count, 100):
        await asyncio.gather(*(broker.publish(list(args), _queue, persist=True) for _ in range(100)))
    await broker.stop()


def send(workload: str, count: int) -> None:
    """Fill the queue."""
    asyncio.run(_many(work.TASKS[workload][1], count))


def publish(count: int) -> None:
    """A hundred at once; aio-pika waits for confirms."""
    asyncio.run(_many(("hello",), count))
