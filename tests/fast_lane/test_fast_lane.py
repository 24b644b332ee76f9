"""In the fast lane a task's life is the same; only its acknowledgement comes with others."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from shared import scope
from shared.app import App, create_app
from shared.config import Settings
from shared.fast_lane import BATCH
from shared.publish import publish_many
from shared.topology import dead_letter_queue
from tests.fast_lane import worker as tasks
from tests.fast_lane.worker import PREFETCH
from tests.servers import OwnBroker, OwnRedis
from tests.waiting import eventually

pytestmark = pytest.mark.containers

ROOT = Path(__file__).resolve().parents[2]
DEAD = dead_letter_queue("calculator")


class Lane:
    """A worker of the calculator on this machine, beside a real broker and a real Redis."""

    def __init__(self, broker: OwnBroker, redis: OwnRedis, folder: Path, fast: str, pool: str) -> None:
        self._folder, self._pool, self.fast = folder, pool, fast == "yes"
        logs = {"TASK_LOG_DIR": str(folder / "logs"), "TASK_LOG_SIZE": "1000000"}
        # With the read path that was made for it, and beside the lane with the usual one.
        logs["BROKER_READS"] = "pieces" if fast == "yes" else "frames"
        self._environ = {**os.environ, **broker.user("calculator", redis), **logs, "EFFECTS": str(folder), "FAST": fast}
        self.app: App = create_app(settings=Settings.load(broker.user("operator", redis)), current=False)
        self._workers: list[subprocess.Popen[bytes]] = []
        self._numbers = count()

    def start(self) -> "subprocess.Popen[bytes]":
        """One more worker, which consumes."""
        worker, health = self.spawn()
        eventually(lambda: health.exists() or worker.poll() is not None)
        assert health.exists(), (self._folder / "log").read_text()
        return worker

    def spawn(self) -> "tuple[subprocess.Popen[bytes], Path]":
        """One more worker, and the file that it writes when it consumes."""
        number = next(self._numbers)
        health = self._folder / f"consuming-{number}"
        arguments = ["-A", "tests.fast_lane.worker", "worker", "--queues=calculator", f"--pool={self._pool}"]
        arguments += ["--concurrency=1", f"--hostname=calculator@lane{number}"]
        arguments += ["--without-mingle", "--without-gossip"]
        with (self._folder / "log").open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "celery", *arguments],
                env=self._environ | {"HEALTH_FILE": str(health)},
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._workers.append(worker)
        return worker, health

    def send(self, declaration: Any, *keys: str, **options: Any) -> list[Any]:
        """A task a key; gives the answers that will come."""
        options.setdefault("ignore_result", not declaration.keeps_result)
        return [self.app.send_task(declaration.name, **{"kwargs": {"key": key}, **options}) for key in keys]

    def effects(self) -> Counter[str]:
        """How often each key had its effect."""
        path = self._folder / "effects"
        return Counter(path.read_text().split() if path.exists() else [])

    def ended(self) -> Counter[str]:
        """How tasks ended, as those are told who listen."""
        return Counter((self._folder / "ended").read_text().splitlines())

    def log(self) -> str:
        """What the workers said."""
        return (self._folder / "log").read_text()

    def task_log(self, name: str) -> str:
        """What stands in a task's own log."""
        return (self._folder / "logs" / f"{name}.log").read_text()

    def waiting(self, queue: str = "calculator") -> int:
        """How many messages a queue holds that no worker has."""
        with self.app.connection_for_write() as connection:
            return int(connection.default_channel.queue_declare(queue, passive=True).message_count)

    def dead(self) -> list[str]:
        """The tasks of the dead letters, which stay."""
        with self.app.connection_for_write() as connection:
            channel, found = connection.channel(), []
            while message := channel.basic_get(DEAD):
                found.append(message.headers["task"])
            return found

    def letters(self) -> list[dict[str, Any]]:
        """The causes of the dead letters."""
        with self.app.connection_for_write() as connection:
            channel, found = connection.default_channel, []
            while message := channel.basic_get(DEAD, no_ack=True):
                found.append(message.headers["dead-letter"])
            return [json.loads(one) if isinstance(one, str) else one for one in found]

    def close(self) -> None:
        """End every worker, and leave nothing for the next test."""
        for worker in self._workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        with self.app.connection_for_write() as connection:
            channel = connection.default_channel
            eventually(lambda: channel.queue_declare("calculator", passive=True).consumer_count == 0)
            for queue in ("calculator", DEAD):
                channel.queue_purge(queue)
        self.app.close()


@pytest.fixture(params=[("yes", "solo"), ("yes", "threads"), ("no", "solo")], ids=["lane", "lane-threads", "default"])
def lane(request: pytest.FixtureRequest, broker: OwnBroker, redis: OwnRedis, tmp_path: Path) -> Iterator[Lane]:
    """Each test is played in the lane, and beside it: the outcome must be the same."""
    lane = Lane(broker, redis, tmp_path, *request.param)
    try:
        yield lane
    finally:
        lane.close()


def test_a_tasks_life_is_the_same(lane: Lane) -> None:
    # Given tasks of every kind of end, and one that an operator has revoked
    worker = lane.start()
    lane.app.control.revoke("revoked")
    with scope.scope(locale="fr"):
        (told,) = lane.send(tasks.told, "told")
    (effect,) = lane.send(tasks.effect, "effect")
    (again,) = lane.send(tasks.again, "again")
    (failed,) = lane.send(tasks.fail, "failed")
    (refused,) = lane.send(tasks.refuse, "refused")
    (early,) = lane.send(tasks.early, "early")
    (day,) = lane.send(tasks.day, "day", kwargs={"key": "day", "day": date(2026, 3, 15)})
    lane.send(tasks.effect, "late", headers={"expires": "2026-01-01T00:00:00+00:00"})
    lane.send(tasks.effect, "revoked", task_id="revoked")
    lane.app.send_task("calculator.effect", kwargs={"wrong": 1})

    # Then each has the result, the retry and the knowledge of itself that it has anywhere
    known = told.get(timeout=30)
    assert known == {
        "id": told.id,
        "root": told.id,
        "retries": 0,
        "scope": {"locale": "fr"},
        "kwargs": {"key": "told"},
        "routing_key": "calculator.told",
        "headers": known["headers"],
        "lane": lane.fast,
    }
    assert {"scope", "first_published"} <= set(known["headers"]) <= {"scope", "first_published", "due"}
    assert effect.get(timeout=30) == "effect"
    assert early.get(timeout=30) is False
    assert day.get(timeout=30) == "2026-03-15"
    assert again.get(timeout=30) == "again" and lane.effects()["again"] == 2
    with pytest.raises(ValueError, match="made to fail: failed"):
        failed.get(timeout=30)
    eventually(lambda: refused.state == "FAILURE")
    # And what cannot be done is a dead letter with its reason
    eventually(lambda: lane.waiting(DEAD) == 5)
    reasons = Counter(letter["reason"] for letter in lane.letters())
    assert reasons == Counter(["failure", "rejected", "expired", "revoked", "invalid_arguments"])
    # And who listens is told of each end
    assert lane.ended() == {
        "calculator.again RETRY Retry": 1,
        "calculator.again SUCCESS str": 1,
        "calculator.day SUCCESS str": 1,
        "calculator.early SUCCESS bool": 1,
        "calculator.effect FAILURE InvalidArguments": 1,
        "calculator.effect SUCCESS str": 1,
        "calculator.fail FAILURE ValueError": 1,
        "calculator.refuse REJECTED Reject": 1,
        "calculator.told SUCCESS dict": 1,
    }
    assert re.search(rf"Task calculator.effect\[{effect.id}\] succeeded in [\d.e-]+s: 'effect'", lane.log())
    # And its own log tells its life
    log = lane.task_log("calculator.effect")
    assert f"{effect.id} root={effect.id} attempt=1 received" in log and " started" in log and " succeeded in " in log
    assert "failed: ValueError: made to fail" in lane.task_log("calculator.fail")
    # And the worker's statistics count it
    (stats,) = lane.app.control.inspect(timeout=30, limit=1).stats().values()
    assert stats["total"]["calculator.told"] == 1 and stats["total"]["calculator.fail"] == 1
    # And nothing of it is done again
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert lane.waiting() == 0


@pytest.mark.parametrize("lane", [("yes", "solo"), ("yes", "threads")], indirect=True, ids=["lane", "lane-threads"])
def test_what_is_published_in_any_way_is_taken(lane: Lane) -> None:
    lane.start()
    # Given a task published one by one and many at once, with the limits that a service's own task has, and without
    ids = ("limits", "limits-many", "none", "none-many")
    limits: dict[str, Any] = {"time_limit": 45, "soft_time_limit": 30}
    lane.send(tasks.told, "told", task_id=ids[0], **limits)
    lane.send(tasks.told, "told", task_id=ids[2])
    many = [tasks.told("told").set(task_id=ids[1], **limits), tasks.told("told").set(task_id=ids[3])]
    publish_many(many, app=lane.app).raise_first()
    # Then all of them are run in the lane
    assert [lane.app.AsyncResult(id).get(timeout=30)["lane"] for id in ids] == [True] * 4


def test_a_stop_acknowledges_what_is_done(lane: Lane) -> None:
    # Given more tasks than a batch has, and not a multiple of it
    worker = lane.start()
    keys = [f"key-{number}" for number in range(2 * BATCH + 7)]
    lane.send(tasks.effect, *keys)
    eventually(lambda: len(lane.effects()) == len(keys))

    # When the worker is stopped
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0

    # Then none of them is left to do again
    assert lane.waiting() == 0
    assert lane.effects() == Counter(keys)


@pytest.mark.parametrize("lane", [("yes", "solo")], indirect=True, ids=["lane"])
def test_a_killed_worker_repeats_what_it_had_prefetched_at_most(lane: Lane) -> None:
    # Given a worker in the middle of many tasks
    keys = [f"key-{number}" for number in range(1500)]
    lane.send(tasks.effect, *keys)
    worker = lane.start()
    eventually(lambda: len(lane.effects()) > 300)

    # When it is killed, and another one goes on
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    lane.start()

    # Then every task has been done, and none twice but of those that the broker did not know to be done: what was not
    # acknowledged, and what was and whose acknowledgement it had not worked through
    eventually(lambda: len(lane.effects()) == len(keys))
    eventually(lambda: lane.waiting() == 0)
    repeated = [key for key, times in lane.effects().items() if times > 1]
    assert len(repeated) <= PREFETCH + BATCH
    assert max(lane.effects().values()) <= 2 and lane.waiting(DEAD) == 0


@pytest.mark.parametrize("lane", [("yes", "solo")], indirect=True, ids=["lane"])
def test_a_result_that_cannot_be_kept_is_a_dead_letter(lane: Lane, redis: OwnRedis) -> None:
    # Given a task that keeps its result, and a result store that is away. Celery's solo pool gives up such a message as
    # one that cannot be handled; the lane says what a process of a pool says
    lane.send(tasks.effect, "kept")
    redis.stop()
    try:
        # When it has been run, then it is a failure that somebody has to look at, and is not run again
        lane.start()
        eventually(lambda: lane.waiting(DEAD) == 1, 60)
        assert lane.effects() == {"kept": 1}
        (letter,) = lane.letters()
        assert letter["reason"] == "failure", letter
    finally:
        redis.start()


@pytest.mark.parametrize("lane", [("yes", "threads")], indirect=True, ids=["lane-threads"])
@pytest.mark.parametrize("before", [1, 0], ids=["in between", "first"])
def test_a_task_that_still_runs_is_not_acknowledged_with_the_others(lane: Lane, before: int) -> None:
    # Given a task in a thread that takes its time, and the lane's own after it, and before it or not
    worker = lane.start()
    lane.send(tasks.effect, *["before"] * before)
    lane.app.send_task("calculator.last", kwargs={"key": "long", "seconds": 3600})
    eventually(lambda: lane.effects()["begun-long"] == 1)
    keys = [f"key-{number}" for number in range(BATCH + 3)]
    lane.send(tasks.effect, *keys)
    eventually(lambda: len(lane.effects()) == len(keys) + 1 + before)

    # When the worker is killed
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()

    # Then the long one comes back, and of the others what it had prefetched at most
    eventually(lambda: 1 <= lane.waiting() <= PREFETCH + 1)
    with lane.app.connection_for_write() as connection:
        names = []
        while message := connection.default_channel.basic_get("calculator", no_ack=True):
            names.append(message.headers["task"])
    assert names.count("calculator.last") == 1
