"""A worker that is told to stop loses nothing, repeats nothing that it finished, and leaves nothing running."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue

from shared.app import App, create_app
from shared.config import Settings
from shared.render.worker import worker_arguments
from shared.topology import dead_letter_queue, service
from tests.servers import OwnBroker, OwnRedis
from tests.waiting import eventually

pytestmark = pytest.mark.containers

ROOT = Path(__file__).resolve().parents[2]
#: Seconds. The broker gives back what a connection holds that was silent for two of them.
HEARTBEAT = 1


class Pool:
    """The calculator's worker on this machine, with a task that lasts, beside a real broker."""

    def __init__(self, broker: OwnBroker, redis: OwnRedis, folder: Path) -> None:
        self._environ = {**os.environ, **broker.user("calculator", redis), "EFFECTS": str(folder)}
        self._folder = folder
        self.app: App = create_app(settings=Settings.load(broker.user("operator", redis)), current=False)
        self._workers: list[subprocess.Popen[bytes]] = []
        # The broker is the whole run's: another test's message would be this worker's dead letter.
        self._empty()

    def start(self, *, time_limit: int, stop_within: int, **more: str) -> "subprocess.Popen[bytes]":
        """One more worker, which consumes."""
        health = self._folder / f"consuming-{len(self._workers)}"
        limits = {"TIME_LIMIT": str(time_limit), "STOP_WITHIN": str(stop_within), "HEARTBEAT": str(HEARTBEAT)}
        arguments = worker_arguments(service("calculator"))
        arguments[arguments.index("-A") + 1] = "tests.shutdown.worker"
        with (self._folder / "log").open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "celery", *arguments],
                env=self._environ | limits | more | {"HEALTH_FILE": str(health)},
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._workers.append(worker)
        eventually(lambda: health.exists() or worker.poll() is not None)
        assert health.exists(), self.log()
        return worker

    def send(self, **seconds: float) -> None:
        """Tasks by their key, and wait until all have begun."""
        for key, lasting in seconds.items():
            self.app.send_task("calculator.last", kwargs={"key": key, "seconds": lasting})
        eventually(lambda: set(self.lines("begun")) >= set(seconds))

    def lines(self, name: str) -> list[str]:
        """Keys, in the order in which they were `begun`, or `done`."""
        path = self._folder / name
        return path.read_text().split() if path.exists() else []

    def log(self) -> str:
        """What the workers said."""
        return (self._folder / "log").read_text()

    def waiting(self, queue: str = "calculator") -> int:
        """How many messages a queue holds that no worker has."""
        with self.app.connection_for_write() as connection:
            return int(connection.default_channel.queue_declare(queue, passive=True).message_count)

    def close(self) -> None:
        """End every worker, and leave nothing for the next test."""
        for worker in self._workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        with self.app.connection_for_write() as connection:
            channel = connection.default_channel
            eventually(lambda: channel.queue_declare("calculator", passive=True).consumer_count == 0)
        self._empty()
        self.app.close()

    def _empty(self) -> None:
        with self.app.connection_for_write() as connection:
            for queue in ("calculator", dead_letter_queue("calculator")):
                connection.default_channel.queue_purge(queue)


@pytest.fixture
def pool(broker: OwnBroker, redis: OwnRedis, tmp_path: Path) -> Iterator[Pool]:
    pool = Pool(broker, redis, tmp_path)
    try:
        yield pool
    finally:
        pool.close()


def stop(worker: "subprocess.Popen[bytes]") -> None:
    """As compose and Kubernetes do; it ends by itself, and none of its processes is left."""
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(worker.pid, 0)


def test_what_fits_is_finished_and_not_done_again(pool: Pool) -> None:
    # Given tasks that last longer than the broker's patience with a silent connection
    worker = pool.start(time_limit=20, stop_within=20)
    pool.send(one=5 * HEARTBEAT, two=5 * HEARTBEAT)

    # When their worker is told to stop
    stop(worker)

    # Then each has had its effect, and its message is acknowledged
    assert sorted(pool.lines("done")) == ["one", "two"]
    assert (pool.waiting(), pool.waiting(dead_letter_queue("calculator"))) == (0, 0)


@pytest.mark.parametrize("key", ["small", pytest.param("x" * 300_000, id="larger than a pipe")])
def test_what_was_begun_and_not_yet_heard_of_is_finished_and_not_done_again(pool: Pool, key: str) -> None:
    # Given a worker that is told to stop before it has heard that its task was begun, or has written all of it
    worker = pool.start(time_limit=60, stop_within=20, STOP_UNHEARD="yes")
    pool.send(**{key: HEARTBEAT})

    # Then it ends, with its task acknowledged, and waits for nothing else: a process whose end nobody reads takes 30 s
    assert worker.wait(20) == 0
    assert (pool.lines("begun"), pool.lines("done")) == ([key], [key])
    assert (pool.waiting(), pool.waiting(dead_letter_queue("calculator"))) == (0, 0)


def test_what_does_not_fit_is_given_back_to_the_next_worker(pool: Pool) -> None:
    # Given a task that fits, and one that takes longer than a worker that stops may
    worker = pool.start(time_limit=30, stop_within=4 * HEARTBEAT)
    pool.send(short=3 * HEARTBEAT, long=9 * HEARTBEAT)

    # When their worker is told to stop
    stop(worker)

    # Then the one is done, and the other is neither lost nor a dead letter
    assert pool.lines("done") == ["short"]
    assert (pool.waiting(), pool.waiting(dead_letter_queue("calculator"))) == (1, 0)
    # And the next worker does it
    pool.start(time_limit=30, stop_within=30)
    eventually(lambda: pool.lines("done") == ["short", "long"])
    assert pool.lines("begun").count("short") == 1


def test_a_hard_limit_holds_while_a_worker_stops(pool: Pool) -> None:
    # Given a task that would go past its limit
    worker = pool.start(time_limit=3, stop_within=20)
    pool.send(endless=3600)

    # When its worker is told to stop, then it ends with the limit, and the task is a dead letter
    stop(worker)
    assert (pool.waiting(), pool.waiting(dead_letter_queue("calculator"))) == (0, 1)


def test_the_last_events_leave_before_the_end(pool: Pool, broker: OwnBroker) -> None:
    # Given somebody who listens, as Flower does, and a worker whose events wait for longer than it lives
    with Connection(broker.administrator()) as connection:
        channel = connection.channel()
        queue = Queue("", Exchange("celeryev", type="topic", no_declare=True), "task.multi", exclusive=True)(channel)
        queue.declare()
        worker = pool.start(time_limit=60, stop_within=20, EVENTS_APART="3600")
        # When it has some tasks, and is told to stop while the last one runs
        pool.send(**{f"short-{number}": 0.0 for number in range(10)})
        pool.send(last=1.0)
        stop(worker)
        heard: list[list[dict[str, Any]]] = []
        while (message := queue.get(no_ack=True)) is not None:
            heard.append(message.payload)
    # Then each event of them was told, many in one message
    kinds = Counter(event["type"] for events in heard for event in events)
    assert kinds == {"task-received": 11, "task-started": 11, "task-succeeded": 11}
    assert len(heard) < 6
