"""arq on Redis. Source: its documents."""

import asyncio
import os
from typing import Any, ClassVar

from arq import create_pool, func
from arq.connections import RedisSettings

from bench.peers import work
from bench.peers.peer import THROUGHPUT, Peer

PEERS = (
    Peer(
        "arq",
        "arq_peer",
        "arq bench.peers.arq_peer.Worker",
        "redis",
        (*THROUGHPUT, "publish", "round_trip"),
        tasks=100,
        note="one loop",
    ),
)

_settings = RedisSettings.from_dsn(os.environ["BENCH_REDIS"])


def _with_context(name: str) -> Any:
    run = work.in_a_loop(name)

    async def task(context: Any, *args: Any) -> Any:
        return await run(*args)

    return func(task, name=name)


async def _one(context: Any, number: int) -> int:
    return work.one(number)


class Worker:
    """What arq is told."""

    functions: ClassVar[list[Any]] = [*(_with_context(name) for name in work.TASKS), func(_one, name="one")]
    redis_settings = _settings
    max_jobs = 100
    poll_delay = 0.01
    keep_result = 60
    queue_name = "bench"


async def _many(workload: str, args: tuple[Any, ...], count: int) -> None:
    pool = await create_pool(_settings, default_queue_name="bench")
    for _ in range(0, count, 100):
        await asyncio.gather(*(pool.enqueue_job(workload, *args) for _ in range(100)))
    await pool.aclose()


def send(workload: str, count: int) -> None:
    """Fill the queue."""
    asyncio.run(_many(workload, work.TASKS[workload][1], count))


def publish(count: int) -> None:
    """A hundred at once."""
    asyncio.run(_many("payload", ("hello",), count))


_loop: asyncio.AbstractEventLoop | None = None
_pool: Any = None


def call() -> None:
    """There and back."""
    global _loop, _pool
    if _loop is None:
        _loop = asyncio.new_event_loop()
        _pool = _loop.run_until_complete(create_pool(_settings, default_queue_name="bench"))

    async def there_and_back() -> None:
        job = await _pool.enqueue_job("one", 1)
        # Its own `result` may look for a job between the end of it and its result.
        while await job.result_info() is None:
            await asyncio.sleep(0.001)

    _loop.run_until_complete(there_and_back())
