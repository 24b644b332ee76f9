"""A reporter whose tasks go wrong on purpose, its dead letters, and the operator's command."""

import json
import os
from collections.abc import Iterator
from typing import Any

import amqp
import pytest

from shared.topology import SERVICES, UNROUTED_QUEUE, dead_letter_queue
from tests.e2e.houses import ComposeHouse
from tests.e2e.test_cluster import until
from tests.e2e.test_malformed import connect

DEAD = "reporter.dead"
#: Every queue that the operator's command reads: other tests leave letters there.
KEPT = (*(dead_letter_queue(spec.name) for spec in SERVICES), UNROUTED_QUEUE)
FAULTY = "tests/e2e/faulty.yaml"


@pytest.fixture(scope="module")
def faulty(cluster: ComposeHouse) -> Iterator[ComposeHouse]:
    """The cluster, with a reporter that has tasks which go wrong on purpose."""
    up = ("up", "-d", "--wait", "--no-deps", "reporter")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPOSE_FILE", f"{os.environ['COMPOSE_FILE']}:{FAULTY}")
        done = cluster.compose(*up)
        assert done.returncode == 0, done.stderr
        yield cluster
    cluster.compose(*up)


@pytest.fixture(scope="module")
def channel(faulty: ComposeHouse) -> Iterator[amqp.Channel]:
    """The broker's, for one who may do everything."""
    with connect(faulty) as connection:
        yield connection.channel()


@pytest.fixture
def house(faulty: ComposeHouse, channel: amqp.Channel) -> ComposeHouse:
    """That cluster, with no dead letter, no trace of earlier tasks and a gate that is open."""
    faulty.github.reset()
    clean = "import os, shutil; shutil.rmtree('/reports/faulty', ignore_errors=True); os.makedirs('/reports/faulty')"
    in_reporter(faulty, clean)
    for queue in ("reporter", *KEPT):
        channel.queue_purge(queue)
    return faulty


def in_reporter(house: ComposeHouse, script: str) -> str:
    done = house.compose("exec", "-T", "reporter", "python", "-c", script)
    assert done.returncode == 0, done.stderr
    return done.stdout


def send(house: ComposeHouse, *calls: dict[str, Any]) -> None:
    """Publish tasks as a program does; each call is the arguments of `send_task`."""
    script = f"import json\nfrom shared.app import app\nfor call in json.loads({json.dumps(json.dumps(calls))}):\n"
    done = house.publisher(script + "    app.send_task(**call)")
    assert done.returncode == 0, done.stderr


def call(name: str, id: str = "", **options: Any) -> dict[str, Any]:
    return {"name": f"reporter.faulty.{name}", "task_id": id or f"{name}-1", **options}


def dlq(house: ComposeHouse, *arguments: str, exits: int = 0) -> str:
    done = house.celery("dlq", *arguments)
    assert done.returncode == exits, (done.stdout, done.stderr)
    return done.stdout


def listed(house: ComposeHouse, *filters: str) -> list[dict[str, Any]]:
    return json.loads(dlq(house, "list", "--format", "json", *filters))


def waiting(channel: amqp.Channel, queue: str = DEAD) -> int:
    """How many messages are to be had from a queue now; what `rabbitmqctl` tells of quorum queues is seconds old."""
    return int(channel.queue_declare(queue, passive=True).message_count)


def wait_for(channel: amqp.Channel, letters: int, queue: str = DEAD) -> None:
    until(f"{letters} messages are in {queue}", lambda: waiting(channel, queue) == letters)


def effects(house: ComposeHouse) -> list[str]:
    """A line an effect: the task's id and what it was called with."""
    script = "import pathlib; f = pathlib.Path('/reports/faulty/effects'); print(f.read_text() if f.exists() else '')"
    return in_reporter(house, script).split("\n")[:-2]
