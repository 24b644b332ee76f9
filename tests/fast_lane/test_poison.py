"""A task that ends its process is a dead letter in the end, and what its worker held besides is done."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.topology import DELIVERY_LIMIT
from tests.fast_lane import worker as tasks
from tests.fast_lane.test_fast_lane import DEAD, Lane
from tests.servers import OwnBroker, OwnRedis
from tests.waiting import eventually

pytestmark = pytest.mark.containers


@contextmanager
def supervised(lane: Lane, workers: int) -> Iterator[None]:
    """While so many workers run, each of which is started anew when it has ended."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            worker, _ = lane.spawn()
            while worker.poll() is None and not over.wait(0.05):
                pass

    threads = [threading.Thread(target=run) for _ in range(workers)]
    for one in threads:
        one.start()
    try:
        yield
    finally:
        over.set()
        for one in threads:
            one.join()


@pytest.mark.parametrize(
    ("pool", "workers", "poisons"),
    [
        pytest.param("solo", 1, 1, id="one worker"),
        pytest.param("threads", 1, 1, id="one worker with threads", marks=pytest.mark.long),
        pytest.param("solo", 3, 3, id="three workers", marks=pytest.mark.long),
    ],
)
def test_only_the_poison_is_a_dead_letter(
    broker: OwnBroker, redis: OwnRedis, tmp_path: Path, pool: str, workers: int, poisons: int
) -> None:
    # Given tasks that end their process, among harmless neighbours, more than a worker holds
    lane = Lane(broker, redis, tmp_path, "yes", pool)
    neighbours = [f"key-{number}" for number in range(300 * poisons)]
    bad = [f"poison-{number}" for number in range(poisons)]
    for number, one in enumerate(bad):
        lane.send(tasks.effect, *neighbours[number * 300 : number * 300 + 150], ignore_result=True)
        lane.send(tasks.poison, one)
        lane.send(tasks.effect, *neighbours[number * 300 + 150 : number * 300 + 300], ignore_result=True)
    try:
        # When workers run, which are started anew each time that they end
        with supervised(lane, workers):
            eventually(lambda: lane.waiting(DEAD) >= poisons and set(neighbours) <= lane.effects().keys(), 60)
            eventually(lambda: lane.waiting() == 0)
        # Then each neighbour is done, and no other than the poisons is a dead letter
        effects = lane.effects()
        # Of several workers one may hold it while another one ends it
        runs = [effects[one] for one in bad]
        assert runs == [DELIVERY_LIMIT + 1] if workers == 1 else max(runs) <= DELIVERY_LIMIT + 1
        assert lane.dead() == ["calculator.poison"] * poisons
    finally:
        lane.close()
