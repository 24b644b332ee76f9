"""The broker is killed while many tasks are published: what was confirmed outlives it, and the rest can follow."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.app import App
from shared.publish import publish_many
from tests.fast_lane import worker as tasks
from tests.fast_lane.test_fast_lane import Lane
from tests.publishing.conftest import QUEUE, Arrived, Start
from tests.publishing.test_publish_many import Cut
from tests.publishing.test_publishing import within
from tests.servers import OwnBroker, OwnRedis
from tests.waiting import eventually

pytestmark = pytest.mark.containers

MakeApp = Callable[..., App]


@pytest.fixture
def killable(broker: OwnBroker) -> Iterator[OwnBroker]:
    """The broker that all tests share, and that is there again for the others."""
    yield broker
    broker.start()


def test_what_was_confirmed_is_done_and_the_rest_follows(
    make_app: MakeApp, killable: OwnBroker, redis: OwnRedis, tmp_path: Path
) -> None:
    # Given a broker that is killed in the middle of a batch, and stays away
    broker = killable
    app = make_app(publish_timeout=8.0)
    batch = [tasks.effect(key=f"key-{number}").set(ignore_result=True) for number in range(6000)]
    with within(8.0):
        told = publish_many(batch, app=app, progress=Cut(2000, broker.kill))
    # Then each is confirmed, or it may be there, or it was not sent
    keys = dict(zip(told.ids, (one.kwargs["key"] for one in batch), strict=True))
    confirmed = {keys[one] for one in told.confirmed}
    unsent = {keys[one.id] for one in told.of("not_sent")}
    assert told.counts.keys() <= {"confirmed", "unknown", "not_sent"} and sum(told.counts.values()) == 6000
    assert len(confirmed) >= 2000 and told.counts.get("unknown", 0) <= 1000 and len(unsent) >= 2000
    # And when it is back, then what was confirmed is done, and nothing of what was not sent
    broker.start()
    lane = Lane(broker, redis, tmp_path, "yes", "solo")
    try:
        lane.start()
        eventually(lambda: confirmed <= lane.effects().keys() and lane.waiting() == 0)
        assert not unsent & lane.effects().keys()
        # And what is published again under its ids completes it
        assert publish_many(told.again(), app=app, timeout=60.0).counts == {"confirmed": len(told.failed)}
        eventually(lambda: lane.effects().keys() == set(keys.values()))
        assert lane.waiting("calculator.dead") == 0
    finally:
        lane.close()


def test_the_command_keeps_what_was_not_confirmed(killable: OwnBroker, start: Start, tmp_path: Path) -> None:
    # Given a broker that is killed while a command publishes a file, and stays away
    broker = killable
    file, rest = tmp_path / "args.jsonl", tmp_path / "args.jsonl.unconfirmed"
    file.write_text("".join(f'{{"args": ["number {number}"], "id": "id-{number}"}}\n' for number in range(40_000)))
    before = Arrived(broker.administrator(), QUEUE)
    command = ("calculator.note", "--format", "json", "--timeout", "8")
    process = start(*command, "--from", str(file))
    eventually(lambda: before.count() > 2000)
    broker.kill()
    with within(8.0):
        told, errors = process.communicate()
    # Then each line is confirmed or kept, and the command says so
    assert process.returncode == 1, errors
    report = json.loads(told)
    kept = [json.loads(line)["id"] for line in rest.read_text().splitlines()]
    assert report["counts"]["confirmed"] > 0 and report["counts"]["confirmed"] + len(kept) == 40_000
    assert kept == [one["id"] for one in report["failed"]]
    unsent = {one["id"] for one in report["failed"] if one["outcome"] == "not_sent"}
    assert unsent and len(kept) - len(unsent) <= 1000
    # And when the broker is back, then what was confirmed is there, and nothing of what was not sent
    broker.start()
    after = Arrived(broker.administrator(), QUEUE, purge=False)
    there = set(after.ids())
    everything = {f"id-{number}" for number in range(40_000)}
    assert everything - set(kept) <= there and not unsent & there
    # And the file that was kept completes it
    process = start(*command, "--from", str(rest))
    told, errors = process.communicate()
    assert process.returncode == 0, errors
    assert json.loads(told)["counts"] == {"confirmed": len(kept)}
    assert there | set(after.ids()) == everything
