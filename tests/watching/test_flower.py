"""Flower as a process beside a real broker: what it shows while workers, the broker and itself come and go."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from shared import setup
from shared.render.permissions import MONITOR
from shared.topology import dead_letter_queue
from tests.ports import free_port
from tests.servers import OwnRedis
from tests.waiting import eventually
from tests.watching.house import HOST, QUEUE, House

pytestmark = pytest.mark.containers

#: Seconds in which Flower shows again what happens, after the broker is back. Its own pause is 2 s, an attempt 4 s.
BACK_WITHIN = 20.0


class Dashboard:
    """A Flower that can be stopped and started; it keeps its state."""

    def __init__(self, house: House, redis: OwnRedis, folder: Path) -> None:
        self._folder = folder
        # The file of the first start, with this broker's address.
        setup.prepare(folder / "secrets")
        shipped = (folder / "secrets" / "flower" / "flowerconfig.py").read_text()
        self.monitor = house.broker.monitor()
        self._conf = folder / "flowerconfig.py"
        (line,) = [line for line in shipped.splitlines() if line.startswith("broker_apis = ")]
        self._conf.write_text(shipped.replace(line, f"broker_apis = [{self.monitor!r}]"))
        self._password = (folder / "secrets" / "people" / "flower").read_text()
        self._environ = {**os.environ, **house.broker.user("flower", redis), "TMPDIR": str(folder)}
        self.process: subprocess.Popen[bytes] | None = None
        self._port = free_port()

    def start(self, *more: str) -> None:
        """Until it answers."""
        command = [
            *(sys.executable, "-m", "celery", "-A", "shared.app", "flower"),
            *(f"--conf={self._conf}", f"--address={HOST}", f"--port={self._port}", f"--db={self._folder}/state"),
            *more,
        ]
        with (self._folder / "flower.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=self._environ, stdout=log, stderr=log)
        eventually(self._answers)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; gives its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log()
        try:
            return requests.get(f"http://{HOST}:{self._port}/healthcheck", timeout=5).text == "OK"
        except requests.ConnectionError:
            return False

    def log(self) -> str:
        """What it has said."""
        return (self._folder / "flower.log").read_text()

    def saved(self) -> float:
        """When it last saved what it has seen: the time of the oldest file, for they come into place one by one."""
        there = [path for path in self._folder.glob("state*") if ".tmp" not in path.name]
        return min((path.stat().st_mtime for path in there), default=0)

    def saves(self) -> None:
        """Wait until it has saved once more."""
        last = self.saved()
        eventually(lambda: self.saved() > last)

    def get(self, path: str) -> Any:
        """A page that is JSON."""
        answer = requests.get(f"http://{HOST}:{self._port}{path}", auth=("admin", self._password), timeout=10)
        answer.raise_for_status()
        return answer.json()

    def workers(self) -> dict[str, bool]:
        """Whether each worker that it knows is online."""
        return {worker["hostname"]: worker["status"] for worker in self.get("/workers?json=1")["data"]}

    def state(self, task: str) -> str | None:
        """Of a task, by its id."""
        found = self.get("/api/tasks").get(task)
        return None if found is None else found["state"]

    def lengths(self) -> dict[str, int]:
        """Of queues."""
        return {queue["name"]: queue.get("messages", 0) for queue in self.get("/api/queues/length")["active_queues"]}


@pytest.fixture
def flower(house: House, redis: OwnRedis, tmp_path: Path) -> Iterator[Dashboard]:
    """Running, and without a worker."""
    dashboard = Dashboard(house, redis, tmp_path)
    dashboard.start()
    yield dashboard
    if dashboard.process is not None and dashboard.process.poll() is None:
        dashboard.stop()


def test_workers_come_and_go(house: House, flower: Dashboard) -> None:
    # Given a Flower that runs, when a worker starts after it
    house.start()
    first = f"{QUEUE}@0"
    # Then it is shown, and so is what it does
    eventually(lambda: flower.workers().get(first) is True)
    done = house.send("now")
    eventually(lambda: flower.state(done.id) == "SUCCESS")
    # When one more comes, and the first one ends
    gone = house.worker
    house.start()
    eventually(lambda: flower.workers() == {first: True, f"{QUEUE}@1": True})
    gone.terminate()
    gone.wait(30)
    # Then it is shown as gone, and the other is not
    eventually(lambda: flower.workers() == {first: False, f"{QUEUE}@1": True})
    # When the other is killed, and can say nothing
    house.worker.kill()
    eventually(lambda: flower.workers() == {first: False, f"{QUEUE}@1": False})


def test_the_broker_goes_and_comes_back(house: House, flower: Dashboard) -> None:
    # Given a Flower that shows a worker
    house.start()
    eventually(lambda: flower.workers().get(f"{QUEUE}@0") is True)
    # When the broker is away until Flower has noticed, and has asked again
    house.broker.run("rabbitmqctl", "-q", "stop_app")
    try:
        eventually(lambda: flower.log().count("no events from the broker") >= 2)
        # Then Flower runs and shows what it knew
        assert f"{QUEUE}@0" in flower.workers()
    finally:
        house.broker.run("rabbitmqctl", "-q", "start_app")
    # And when it is back, what happens is shown again
    eventually(house.ready)
    eventually(lambda: flower.workers()[f"{QUEUE}@0"] is True, BACK_WITHIN)
    done = house.send("now")
    eventually(lambda: flower.state(done.id) == "SUCCESS", BACK_WITHIN)


def test_a_crash_costs_what_was_not_yet_saved(house: House, flower: Dashboard) -> None:
    # Given a Flower that saves often, and has seen a task
    flower.stop()
    flower.start("--state-save-interval=1000")
    house.start()
    done = house.send("now")
    eventually(lambda: flower.state(done.id) == "SUCCESS")
    # (The save that ends first after that can have begun before it; the one after it has not.)
    for _ in range(2):
        flower.saves()
    # When it is killed, and starts again when no worker is there
    flower.stop(signal.SIGKILL)
    house.worker.terminate()
    house.worker.wait(30)
    flower.start()
    # Then it shows the task and the worker
    assert flower.state(done.id) == "SUCCESS"
    assert f"{QUEUE}@0" in flower.workers()


def test_it_stops_in_time_and_keeps_what_it_has_seen_while_the_broker_is_away(house: House, flower: Dashboard) -> None:
    house.start()
    done = house.send("now")
    eventually(lambda: flower.state(done.id) == "SUCCESS")
    house.broker.run("rabbitmqctl", "-q", "stop_app")
    try:
        eventually(lambda: not house.ready())
        assert flower.stop() == 0
    finally:
        house.broker.run("rabbitmqctl", "-q", "start_app")
    flower.start()
    assert flower.state(done.id) == "SUCCESS"


def test_the_lengths_of_queues_are_shown(house: House, flower: Dashboard) -> None:
    # Given no worker, two messages that wait, and one that nobody takes
    for _ in range(2):
        house.send("now")
    house.app.send_task("nobody.does_this")
    try:
        # Then each is counted where it is; the broker counts anew each 5 s
        eventually(lambda: flower.lengths().get(QUEUE) == 2)
        eventually(lambda: flower.lengths().get("unrouted") == 1)
        assert flower.lengths()[dead_letter_queue(QUEUE)] == 0
    finally:
        with house.app.connection_for_write() as connection:
            connection.default_channel.queue_purge("unrouted")


ATTEMPTS: dict[str, Callable[[str], requests.Response]] = {
    "read a message": lambda api: requests.post(
        f"{api}queues/%2F/{QUEUE}/get", json={"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}, timeout=10
    ),
    "purge": lambda api: requests.delete(f"{api}queues/%2F/{QUEUE}/contents", timeout=10),
    "delete": lambda api: requests.delete(f"{api}queues/%2F/{QUEUE}", timeout=10),
    "declare": lambda api: requests.put(f"{api}queues/%2F/mine", json={}, timeout=10),
    "publish": lambda api: requests.post(
        f"{api}exchanges/%2F/tasks/publish",
        json={"properties": {}, "routing_key": f"{QUEUE}.now", "payload": "", "payload_encoding": "string"},
        timeout=10,
    ),
    "command workers": lambda api: requests.post(
        f"{api}exchanges/%2F/celery.pidbox/publish",
        json={"properties": {}, "routing_key": "", "payload": "", "payload_encoding": "string"},
        timeout=10,
    ),
    "take passwords": lambda api: requests.get(f"{api}definitions", timeout=10),
    "list users": lambda api: requests.get(f"{api}users", timeout=10),
    "make itself administrator": lambda api: requests.put(
        f"{api}users/{MONITOR}", json={"password": "x", "tags": "administrator"}, timeout=10
    ),
    "give itself rights": lambda api: requests.put(
        f"{api}permissions/%2F/{MONITOR}", json={"configure": ".*", "write": ".*", "read": ".*"}, timeout=10
    ),
    "set a policy": lambda api: requests.put(
        f"{api}policies/%2F/x", json={"pattern": ".*", "definition": {"max-length": 1}}, timeout=10
    ),
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_the_user_that_looks_can_do_no_more(house: House, attempt: str) -> None:
    api = house.broker.monitor()
    assert requests.get(f"{api}queues/%2F/{QUEUE}", timeout=10).status_code == 200
    answer = ATTEMPTS[attempt](api)
    # Of a message to be published RabbitMQ says it in words.
    refused = answer.status_code in (401, 403) or (answer.status_code == 400 and "ACCESS_REFUSED" in answer.text)
    assert refused, answer.text
