"""What a worker says that it has done is what it has done."""

import time
from pathlib import Path
from typing import Any

import pytest

from shared.publish import publish_many
from shared.spec import Pool
from tests.waiting import eventually
from tests.watching.house import QUEUE, House

pytestmark = pytest.mark.containers

TASKS = 10_000
#: How late a wait may be told, in seconds.
PRECISE = 0.05


def told(folder: Path) -> dict[str, int]:
    """What the tasks themselves have counted."""
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def outcomes(house: House, name: str) -> dict[str, float]:
    samples = house.metrics().samples
    found = {
        dict(labels)["outcome"]: value
        for (sample, labels), value in samples.items()
        if sample == "taskhouse_tasks_total" and ("task", f"{QUEUE}.{name}") in labels
    }
    return found


def play(house: House, folder: Path, tasks: int, **how: Any) -> None:
    """Have `tasks` done, of which some fail, some are retried and some call another one; then compare."""
    folder.mkdir()
    house.start(TELL=str(folder), LOG_LEVEL="ERROR", **how)
    sent = publish_many([house.app.signature(f"{QUEUE}.chance", (number,)) for number in range(tasks)], app=house.app)
    assert len(sent.confirmed) == tasks
    numbers = range(tasks)
    expected = {
        "failed": sum(number % 50 == 0 for number in numbers),
        "retried": sum(number % 7 == 0 and number % 50 != 0 for number in numbers),
        "succeeded": sum(number % 50 != 0 for number in numbers),
        "followed": sum(number % 13 == 0 and number % 50 != 0 for number in numbers),
    }
    eventually(lambda: told(folder) == expected, patience=240)
    followed = expected.pop("followed")
    eventually(lambda: outcomes(house, "follow") == {"succeeded": followed})
    eventually(lambda: outcomes(house, "chance") == expected)

    metrics = house.metrics()
    attempts = sum(expected.values())
    assert metrics("task_retries_total", task=f"{QUEUE}.chance", reason="Later") == expected["retried"]
    assert metrics("dead_letters_total", reason="failure", told="yes") == expected["failed"] == house.dead_letters()
    # The pool's processes published these, and most of them are gone.
    published = expected["retried"] + followed
    assert metrics("publishes_total", service=QUEUE, outcome="confirmed") == published
    for histogram in ("run", "wait"):
        assert metrics(f"task_{histogram}_seconds_count", task=f"{QUEUE}.chance") == attempts, histogram
    eventually(lambda: house.metrics()("tasks_running", task=f"{QUEUE}.chance") == 0)


def test_the_counts_of_a_pool_whose_processes_are_replaced_are_exact(house: House, tmp_path: Path) -> None:
    # Given eight processes, each of which is replaced after a hundred tasks
    # When ten thousand tasks are done, then each count is that of the tasks themselves
    play(house, tmp_path / "told", TASKS, concurrency=8, recycled=100)
    # And the processes that are gone have left no file
    (folder,) = tmp_path.glob("taskhouse-metrics-*")
    owners = {path.stem.rpartition("_")[2] for path in folder.iterdir()}
    assert owners <= {"0", str(house.worker.pid), *map(str, house.children())}
    # When the worker ends, then nothing is left
    house.worker.terminate()
    house.worker.wait(30)
    assert not folder.exists()


@pytest.mark.parametrize("pool", ["threads", "gevent", "solo"])
def test_the_counts_of_other_pools_are_exact(house: House, tmp_path: Path, pool: Pool) -> None:
    play(house, tmp_path / "told", 100, pool=pool, concurrency=4)


def test_a_wait_is_told_to_fifty_milliseconds(house: House) -> None:
    # Given a worker whose queue is held back
    house.start()
    house.app.control.cancel_consumer(QUEUE)
    eventually(lambda: not house.ready())
    published = time.time()
    answer = house.send("now", ignore_result=False)
    # When it is let go after five seconds
    eventually(lambda: time.time() - published >= 5)
    house.app.control.add_consumer(QUEUE)
    waited = answer.get(timeout=20) - published
    # Then the wait is that of the task's own clock
    metrics = house.metrics()
    assert waited > 5
    assert metrics("task_wait_seconds_sum", task=f"{QUEUE}.now") == pytest.approx(waited, abs=PRECISE)
    assert metrics("task_wait_seconds_count", task=f"{QUEUE}.now") == 1


def test_a_delay_is_no_wait(house: House) -> None:
    house.start()
    house.send("now", countdown=3).get(timeout=20)
    assert house.metrics()("task_wait_seconds_sum", task=f"{QUEUE}.now") < 2
    # And that it does not run any more is told, though no look has met it
    running = "taskhouse_tasks_running", frozenset({("task", f"{QUEUE}.now")})
    eventually(lambda: house.metrics().samples.get(running) == 0)


def test_what_a_worker_does_not_do_is_counted_too(house: House) -> None:
    house.start()
    # When a task is revoked, one comes too late, one is not known and one ends its process
    house.app.control.revoke("gone")
    house.send("now", task_id="gone")
    house.app.control.cancel_consumer(QUEUE)
    eventually(lambda: not house.ready())
    house.send("nothing")
    house.send("die")
    house.app.control.add_consumer(QUEUE)
    # Then each is counted, under its name where that is one of ours
    eventually(lambda: house.metrics()("dead_letters_total", reason="unknown_task", told="yes") == 1)
    eventually(lambda: house.metrics()("dead_letters_total", reason="delivery_limit", told="yes") == 1)
    metrics = house.metrics()
    assert metrics("tasks_total", task=f"{QUEUE}.now", outcome="revoked") == 1
    assert metrics("dead_letters_total", reason="revoked", told="yes") == 1
    assert metrics("tasks_total", task=f"{QUEUE}.die", outcome="lost") == 6
    assert metrics("redeliveries_total", task=f"{QUEUE}.die") == 5
    # And the task that nobody knows has no series of its own
    assert not [labels for _, labels in metrics.samples if ("task", f"{QUEUE}.nothing") in labels]
