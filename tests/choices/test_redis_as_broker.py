"""Redis as the broker: what is made good of what it has not, and what is said of the rest."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import redis
from click.testing import CliRunner

from services.gateway.broker import BrokerAway, Publisher, Uncertain
from shared import redis_broker
from shared.app import create_app
from shared.cli.trace import trace
from shared.config import Settings
from shared.redis_broker import DelayTooLong, Unroutable
from shared.signatures import calculator
from shared.topology import DELIVERY_LIMIT
from tests.choices.house import Choice, House, house
from tests.choices.servers import ROOT, Servers, until

pytestmark = pytest.mark.containers

#: No other test has this database.
DATABASE = 14
PATIENCE = 60


@pytest.fixture(scope="module")
def place(both_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The calculator alone, with processes that can be killed."""
    folder = tmp_path_factory.mktemp("over-redis")
    with house(both_servers, Choice(broker="redis"), folder, DATABASE, ("calculator",)) as one:
        yield one


def client(place: House) -> "redis.Redis":
    return place.app.connection_for_write().default_channel.client


def test_a_worker_and_a_publisher_say_what_is_weaker(place: House, caplog: pytest.LogCaptureFixture) -> None:
    # When a publisher starts
    create_app(settings=place.app.settings, current=False).close()
    # Then both have said each point, and the page does too
    page = " ".join((ROOT / "docs" / "choices.md").read_text().split())
    for weaker in redis_broker.WEAKER:
        assert weaker in caplog.text
        assert weaker in place.workers["calculator"].log.read_text()
        assert weaker in page


def test_a_canvas_is_traced_here_too(place: House) -> None:
    # Given a task, and one after it that fails
    last = (calculator.add(1, 2) | calculator.add_days.si(3_000_000)).delay()
    place.letter(last.id)
    # Then the tree is told, with the dead letter, which lies in a list
    traced = CliRunner().invoke(trace, [last.id, "--format", "json"], obj=SimpleNamespace(app=place.app))
    assert traced.exit_code == 0, traced.output
    tree = json.loads(traced.stdout)
    (failed,) = tree["children"]
    assert (tree["id"], tree["state"], failed["id"]) == (last.parent.id, "SUCCESS", last.id)
    assert failed["dead_letter"]["reason"] == "invalid_arguments" and failed["wait"] >= 0


def test_a_task_that_ends_its_process_is_a_dead_letter_in_the_end(place: House) -> None:
    # Given a task whose process is killed each time that it runs
    worker = place.workers["calculator"]
    life = place.task_logs / "calculator.wait.log"
    task = calculator.wait(20).delay()
    runs = 0

    def kill() -> bool:
        # The log tells of a start by itself; asked for what runs, a busy worker answers too late.
        nonlocal runs
        told = life.read_text().splitlines() if life.exists() else []
        starts = sum(task.id in line and " started" in line for line in told)
        if starts > runs:
            runs = starts
            for child in _children(worker.process.pid):
                os.kill(int(child), signal.SIGKILL)
        return task.id in {letter.id for letter in place.letters("calculator")}

    until("the dead letter", kill, 120)
    # Then it was given back as often as RabbitMQ would, and its letter says why
    letter = place.letter(task.id)
    assert (letter.reason, letter.attempts) == ("delivery_limit", DELIVERY_LIMIT + 1), worker.log.read_text()[-3000:]
    assert runs == DELIVERY_LIMIT + 1
    # And a replay of it begins to count anew
    assert "x-delivery-count" not in letter.headers and "redelivered" not in letter.headers


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_what_a_dead_worker_held_is_done_by_the_next(both_servers: Servers, place: House) -> None:
    # Given a message that a worker took and noted, an hour ago, before it died
    connection = place.app.connection_for_write()
    channel, task_id = connection.default_channel, str(uuid4())
    headers = {"lang": "py", "task": "calculator.add", "id": task_id, "ignore_result": False}
    message = channel.prepare_message(
        json.dumps([[], {"a": 1, "b": 2}, {}]).encode(), 0, "application/json", "utf-8", headers, {}
    )
    channel._inplace_augment_message(message, "tasks", "calculator.add")
    tag = message["properties"]["delivery_tag"]
    channel.client.hset("unacked", tag, json.dumps([message, "tasks", "calculator.add"]))
    channel.client.zadd("unacked_index", {tag: 1.0})
    # Then another does it, and nothing is left of it
    assert place.app.AsyncResult(task_id).get(timeout=PATIENCE) == 3
    until("it is acknowledged", lambda: channel.client.zscore("unacked_index", tag) is None)
    connection.release()


ENVELOPES = {
    "no JSON": b"{",
    "no text": b"\xff\xfe",
    "a number": b"5",
    "null": b"null",
    "an empty object": b"{}",
    "no tag": b'{"properties": {}}',
    "a tag that is a list": b'{"properties": {"delivery_tag": []}}',
    "deep": b"[" * 100_000,
    **{
        what: json.dumps(
            {
                "body": "W10=",
                "headers": {},
                "content-type": "application/json",
                "content-encoding": "utf-8",
                "properties": {
                    "body_encoding": "base64",
                    "delivery_tag": "x",
                    "delivery_info": {"exchange": "tasks", "routing_key": "calculator.add"},
                    **properties,
                },
                **changed,
            }
        ).encode()
        for what, changed, properties in (
            ("a body that is a number", {"body": 5}, {}),
            ("a body that is no base64", {"body": "x"}, {}),
            ("headers that are a list", {"headers": []}, {}),
            ("a type that is a list", {"content-type": []}, {}),
            ("an encoding that is a number", {"content-encoding": 5}, {}),
            ("a carrier that nobody knows", {}, {"body_encoding": "rot13"}),
            ("from nowhere", {}, {"delivery_info": None}),
            ("from half a place", {}, {"delivery_info": {"exchange": "tasks"}}),
            ("a priority that is a text", {}, {"priority": "high"}),
        )
    },
}


def test_no_text_in_a_list_ends_the_worker_or_is_lost(place: House) -> None:
    # Given texts that are no messages, in the calculator's list
    before = {letter.key for letter in place.letters("calculator")}
    connection = place.app.connection_for_write()
    for text in ENVELOPES.values():
        connection.default_channel.client.lpush("calculator", text)
    connection.release()
    # When a good one comes after them, then it is done by the same worker
    assert calculator.add(1, 2).delay().get(timeout=PATIENCE) == 3
    assert place.workers["calculator"].process.poll() is None
    # And each is a dead letter with all of its bytes
    kept = [letter for letter in place.letters("calculator") if letter.key not in before]
    assert {letter.reason for letter in kept} == {"malformed"}
    assert sorted(letter.body for letter in kept) == sorted(ENVELOPES.values())


def test_what_redis_would_lose_is_refused_where_it_is_published(place: House) -> None:
    with pytest.raises(Unroutable, match=r"no service takes 'nobody.does_this'"):
        place.app.send_task("nobody.does_this")
    limit = place.app.settings.broker_visibility_timeout
    for delay in ({"countdown": limit}, {"eta": "2100-01-01T00:00:00+00:00"}):
        with pytest.raises(DelayTooLong, match="BROKER_VISIBILITY_TIMEOUT"):
            calculator.add(1, 2).apply_async(**delay)
    # And a shorter one is held
    assert calculator.add(1, 2).apply_async(countdown=1).get(timeout=PATIENCE) == 3


def celery(place: House, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "shared.app", *arguments],
        cwd=ROOT,
        env=place.operator,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_the_operators_commands(place: House) -> None:
    # Given a dead letter, in a list of several
    failed = [calculator.add_days(3_000_000).delay().id for _ in range(3)]
    for one in failed:
        place.letter(one)
    # Then it is listed and shown, and the others keep their order
    listed = [one["id"] for one in json.loads(celery(place, "dlq", "list", "--format", "json").stdout)]
    assert [one for one in listed if one in failed] == sorted(failed, key=listed.index) and set(failed) <= set(listed)
    shown = celery(place, "dlq", "show", failed[1])
    assert "invalid_arguments" in shown.stdout and "3000000" in shown.stdout
    # When it is replayed with better arguments, then it is done, and the others stay
    again = celery(place, "dlq", "replay", "--id", failed[1], "--kwargs", '{"days": 0, "to": "2026-01-01"}')
    assert again.returncode == 0, again.stderr
    until("it is done", lambda: failed[1] not in {one.id for one in place.letters("calculator")})
    dropped = celery(place, "dlq", "drop", "--id", failed[0], "--yes", "--export", "-")
    assert dropped.returncode == 0 and failed[0] in dropped.stdout
    left = {one.id for one in place.letters("calculator")}
    assert failed[2] in left and failed[0] not in left
    # And the workers answer
    assert "pong" in celery(place, "inspect", "ping").stdout
    route = celery(place, "route", "calculator.add")
    assert re.search(r"consumed by\s+calculator@", route.stdout), route.stdout + route.stderr


def test_the_gateway_publishes_and_says_what_it_cannot(both_servers: Servers, place: House) -> None:
    async def publish(publisher: Publisher) -> Any:
        await publisher.check()
        task_id = str(uuid4())
        await publisher.publish(calculator.add(20, 22), task_id)
        return await asyncio.to_thread(place.app.AsyncResult(task_id).get, timeout=PATIENCE)

    publisher = Publisher(place.app)
    assert asyncio.run(publish(publisher)) == 42
    publisher.close()
    # Where nobody is
    away = place.operator | {"BROKER_URL": "redis://operator@127.0.0.1:9/0"}
    app = create_app(settings=Settings.load(away), current=False)
    nobody = Publisher(app)
    with pytest.raises((BrokerAway, Uncertain)):
        asyncio.run(nobody.publish(calculator.add(1, 2), "1"))
    with pytest.raises(BrokerAway):
        asyncio.run(nobody.check())
    nobody.close()
    app.close()
