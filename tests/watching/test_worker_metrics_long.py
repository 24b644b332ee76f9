"""What metrics cost, in time and in memory."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers import OwnBroker, OwnRedis
from tests.watching.house import QUEUE, House

pytestmark = [pytest.mark.containers, pytest.mark.long]

TASKS = 200_000
#: Published at once; the queue never holds more.
BATCH = 10_000
#: Seconds that a batch may take.
PATIENCE = 600.0
#: Bytes that the main process may have grown by, between the first batch and the last one: a tenth of what it takes.
GROWTH = 8 * 2**20


def test_the_memory_of_a_worker_is_flat_over_200000_tasks(house: House) -> None:
    # Given a worker that has done its first tasks
    house.start(concurrency=2, LOG_LEVEL="ERROR")
    memory: list[float] = []
    for batch in range(TASKS // BATCH):
        with house.app.producer_pool.acquire(block=True) as producer:
            for number in range(BATCH):
                house.send("multiply", number, batch, producer=producer, ignore_result=True)
        done = (batch + 1) * BATCH
        deadline = time.monotonic() + PATIENCE
        while house.metrics().all("tasks_total", "outcome") != {"succeeded": done}:
            assert time.monotonic() < deadline, done
            # Not more often: to be asked costs the worker memory and time too.
            time.sleep(1)
        memory.append(house.metrics().samples["process_resident_memory_bytes", frozenset()])
        print(
            f"{done} tasks: {memory[-1] / 2**20:.1f} MiB, {len(list(house.folder.glob('taskhouse-metrics-*/*')))} files"
        )
    # When it has done two hundred thousand, then its memory is what it was
    assert memory[-1] - memory[1] < GROWTH, memory


def test_counting_costs_a_task_little(broker: OwnBroker, redis: OwnRedis) -> None:
    # When the benchmark runs
    root = Path(__file__).parents[2]
    environ = {**os.environ, **broker.user(QUEUE, redis)}
    done = subprocess.run(
        [sys.executable, "-m", "bench.metrics_cost"], cwd=root, env=environ, capture_output=True, text=True, check=False
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    # Then counting by itself is a small part of what a task costs
    assert float(done.stdout.split(", ")[-1].split("%")[0]) < 10
