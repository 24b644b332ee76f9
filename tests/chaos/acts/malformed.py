"""Messages of which no task can be made, between good ones."""

import json
from dataclasses import replace
from typing import Any

import amqp

from tests.chaos.broker import KEY
from tests.chaos.stage import Stage
from tests.e2e.test_malformed import GOOD, KINDS, Bad, fuzzed

TASK = "calculator.chaos.effect"
OWN = json.dumps([[], {"seconds": 0.0}, {}]).encode()


def between_good_ones(stage: Stage) -> None:
    """Every kind of malformed message that is known, and some made by chance, while good ones are published."""
    before = _worker(stage)
    stage.publish(prefix="good")
    bad = [*KINDS, *fuzzed(stage.scale.times, seed=stage.chance.randrange(2**31))]
    with stage.broker.connect() as connection:
        channel = connection.channel()
        for number, one in enumerate(bad):
            key = f"{stage.run}-bad{number}"
            _publish(channel, key, replace(one, body=OWN) if one.body == GOOD else one)
            stage.note_confirmed(key, guilty=True)
    stage.drained(unless=lambda: _worker(stage) != before)
    if _worker(stage) != before:
        stage.complain("worker", "the worker is not the process that it was")
    dead = {letter.key for letter in stage.evidence().letters}
    missing = {f"{stage.run}-bad{number}" for number in range(len(bad))} - dead
    if missing:
        stage.complain("kept", f"{len(missing)} of {len(bad)} malformed messages are no dead letters")
    stage.notes["malformed"] = len(bad)


def _worker(stage: Stage) -> str:
    """The process of the worker: when its container was started, and its id in there."""
    started = stage.docker(
        "inspect", "--format", "{{.State.StartedAt}} {{.RestartCount}}", stage.container("calculator")
    )
    return started + stage.inside("calculator", "print(open('/proc/1/task/1/children').read())")


def _publish(channel: Any, key: str, bad: Bad) -> None:
    headers = {"lang": "py", "task": TASK, "id": key, **bad.headers}
    kept = {name: value for name, value in headers.items() if name not in bad.without}
    properties = {"content_type": "application/json", "content_encoding": "utf-8", **bad.properties}
    message = amqp.Message(bad.body, application_headers={**kept, KEY: key}, delivery_mode=2, **properties)
    channel.basic_publish(message, exchange="tasks", routing_key=TASK)
