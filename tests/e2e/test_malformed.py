"""Any message, of whatever bytes, leaves the worker as it was and ends in the dead-letter queue."""

import json
import random
import zlib
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import amqp
import pytest

from tests.e2e.houses import ComposeHouse, report
from tests.e2e.test_cluster import until

pytestmark = pytest.mark.containers

GOOD = json.dumps([[], {"since": "2026-01-01", "per_page": 1, "page": 1}, {}]).encode()
TASK = "reporter.fetch_repos"


@dataclass
class Bad:
    """A message that no task can be made of; by default everything else of it is as it should be."""

    what: str
    body: bytes = GOOD
    headers: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    properties: dict[str, Any] = field(default_factory=dict)


BODIES = {
    "not UTF-8": b"\xff\xfe\xfd",
    "cut off": GOOD[:-5],
    "empty": b"",
    "a number": b"5",
    "null": b"null",
    "true": b"true",
    "a text": b'"text"',
    "a list of one": b"[1]",
    "an empty list": b"[]",
    "an object": b'{"a": 1}',
    "a list of two": b"[[], {}]",
    "three numbers": b"[1, 2, 3]",
    "a list for keywords": b"[[], [], {}]",
    "an object for arguments": b"[{}, {}, {}]",
    "a number that follows": b"[[], {}, 5]",
    "a chord that is none": b'[[], {}, {"chord": 5}]',
    "callbacks that are none": b'[[], {}, {"callbacks": [5]}]',
    "a chain that is none": b'[[], {}, {"chain": {"task": "x"}}]',
    "too deep": b"[" * 100_000,
    "too long a number": b"[[" + b"9" * 10_000 + b"], {}, {}]",
    "a megabyte of noise": random.Random(1).randbytes(2**20),
}
HEADERS: dict[str, dict[str, Any]] = {
    "an id that is a number": {"id": 7},
    "an id that is empty": {"id": ""},
    "an id without end": {"id": "x" * 10_000},
    "a task that is a number": {"task": 7},
    "a task that is a list": {"task": ["reporter.fetch_repos"]},
    "a task that is a table": {"task": {"a": 1}},
    "a task that nobody has": {"task": "reporter.no_such_task"},
    "a time that is none": {"eta": "tomorrow"},
    "a time that is a list": {"eta": [1]},
    "an end that is none": {"expires": "never"},
    "a limit that is a text": {"timelimit": "long"},
    "limits of the wrong number": {"timelimit": [1]},
    "retries that are a text": {"retries": "many"},
    "stamps that are a number": {"stamped_headers": 5},
    "a group that is a list": {"group": [1]},
}
OTHERS = [
    Bad("no headers", without=("task", "id", "lang")),
    Bad("no task", without=("task",)),
    Bad("no id", without=("id",)),
    Bad("pickle", properties={"content_type": "application/x-python-serialize"}),
    Bad("a type that nobody knows", properties={"content_type": "application/x-nothing"}),
    Bad("a compression that it has not", headers={"compression": "application/x-gzip"}),
    Bad("a compression that nobody knows", headers={"compression": "application/x-nothing"}),
    Bad("compressed noise", body=zlib.compress(b"\x00" * 100), headers={"compression": "application/x-gzip"}),
]
KINDS = [
    *(Bad(what, body=body) for what, body in BODIES.items()),
    *(Bad(what, headers=headers) for what, headers in HEADERS.items()),
    *OTHERS,
]


def fuzzed(count: int, seed: int) -> list[Bad]:
    """Good messages with a few bytes of their body changed, so that it is no JSON any more, or none of a task."""
    chance = random.Random(seed)
    made: list[Bad] = []
    while len(made) < count:
        body = bytearray(GOOD)
        for _ in range(chance.randint(1, 6)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        try:
            args, kwargs, _ = json.loads(body)
            harmless = isinstance(args, list) and isinstance(kwargs, dict)
        except (ValueError, TypeError):
            harmless = False
        if not harmless:
            made.append(Bad(f"fuzz {len(made)}", body=bytes(body)))
    return made


def connect(compose: ComposeHouse) -> amqp.Connection:
    connection = amqp.Connection(
        f"127.0.0.1:{compose.ports['RABBITMQ_PORT']}",
        userid="admin",
        password=compose.passwords()["rabbitmq"],
        confirm_publish=True,
    )
    connection.connect()
    return connection


def publish(channel: amqp.Channel, bad: Bad) -> None:
    headers = {"lang": "py", "task": TASK, "id": str(uuid4()), **bad.headers}
    properties = {"content_type": "application/json", "content_encoding": "utf-8", **bad.properties}
    channel.basic_publish(
        amqp.Message(
            bad.body,
            application_headers={name: value for name, value in headers.items() if name not in bad.without},
            delivery_mode=2,
            **properties,
        ),
        exchange="tasks",
        routing_key=TASK,
    )


def test_no_message_ends_a_worker_or_is_lost(compose: ComposeHouse) -> None:
    # Given the worker, an empty dead-letter queue, and good tasks between the bad
    before = _lives(compose)
    bad = [*KINDS, *fuzzed(200, seed=20261120)]
    good = [Bad("good", headers={"id": f"good-{number}"}) for number in range(50)]
    with connect(compose) as connection:
        channel = connection.channel()
        channel.queue_purge("reporter.dead")
        mixed = [*bad, *good]
        random.Random(7).shuffle(mixed)

        # When they all are published
        for message in mixed:
            publish(channel, message)

        # Then every bad one is in the dead-letter queue, every good one was done
        until(
            f"{len(bad)} dead letters and {len(good)} pages",
            lambda: compose.messages("reporter.dead") >= len(bad) and len(compose.github.requests()) >= len(good),
        )
        until("the queue is empty", lambda: compose.messages("reporter") == 0)
        assert compose.messages("reporter.dead") == len(bad)
        assert len(compose.github.requests()) == len(good)

    # And the worker is the one that it was, and works
    assert _lives(compose) == before
    assert report(compose, "--period", "week", "--refresh").repositories == 500


def _lives(compose: ComposeHouse) -> list[tuple[str, int, str]]:
    """Each container's first process, whose end is the container's: its pool's may come and go as the pool scales."""
    states = ((container["Id"], container["State"]) for container in compose.containers("reporter"))
    return [(container, state["Pid"], state["StartedAt"]) for container, state in states]
