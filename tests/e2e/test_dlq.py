"""An operator looks at dead letters, replays and drops them, and none is lost, or done twice."""

import json
import os
import subprocess
from collections import Counter

import amqp
import pytest

from tests.e2e.dead_letters import (
    DEAD,
    call,
    channel,
    dlq,
    effects,
    faulty,
    house,
    in_reporter,
    listed,
    send,
    wait_for,
    waiting,
)
from tests.e2e.houses import ComposeHouse
from tests.e2e.test_cluster import until
from tests.e2e.test_malformed import connect

__all__ = ["channel", "faulty", "house"]  # fixtures

pytestmark = pytest.mark.containers


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, timeout=60).stdout


def closed_gate(house: ComposeHouse, channel: amqp.Channel, count: int) -> list[str]:
    """Dead letters of tasks that would do something, were a gate not closed; the gate is opened again."""
    in_reporter(house, "open('/reports/faulty/closed', 'w')")
    ids = [f"count-{number:04d}" for number in range(count)]
    send(house, *(call("count", id, kwargs={"text": "first"}) for id in ids))
    wait_for(channel, count)
    in_reporter(house, "import os; os.remove('/reports/faulty/closed')")
    return ids


# --- Looking ----------------------------------------------------------------------------------------------------------


def test_looking_thirty_times_loses_nothing_and_keeps_the_order(house: ComposeHouse, channel: amqp.Channel) -> None:
    # Given letters, more often looked at than RabbitMQ lets a message be taken unless told otherwise
    ids = [f"kept-{number}" for number in range(8)]
    send(house, *(call("fail", id) for id in ids))
    wait_for(channel, len(ids))
    order = [letter["key"] for letter in listed(house)]

    # When an operator looks 30 times, at all or at a few
    script = (
        "from shared.app import app\nfrom shared.dead_letters.shelf import Shelf\n"
        "for number in range(30):\n"
        "    with Shelf(app, 'reporter.dead') as shelf:\n"
        "        seen = [letter.key for letter, _ in zip(shelf, range(9 if number % 2 else 3))]\n"
        "print(len(seen))\n"
    )
    done = house.publisher(script)
    assert done.stdout.strip() == str(len(ids)), done.stderr

    # Then all of them are there, in the order that they were in, by the same keys
    assert [letter["key"] for letter in listed(house)] == order
    assert {letter["id"] for letter in listed(house)} == set(ids)


def test_letters_are_found_by_task_reason_age_and_id(house: ComposeHouse, channel: amqp.Channel) -> None:
    # Given three letters, and a task that no service takes
    send(house, call("fail"), call("reject"), call("nothing"), {"name": "nobody.does_this", "task_id": "nobody-1"})
    wait_for(channel, 3)
    wait_for(channel, 1, "unrouted")
    (key,) = (letter["key"] for letter in listed(house, "--id", "fail-1"))

    # Then each filter gives those that it says, and several give what all of them say
    found = {
        (): {"fail-1", "reject-1", "nothing-1", "nobody-1"},
        ("--reason", "failure"): {"fail-1"},
        ("--reason", "failure", "--reason", "rejected"): {"fail-1", "reject-1"},
        ("--task", "*.faulty.[fr]*"): {"fail-1", "reject-1"},
        ("--id", key[:12]): {"fail-1"},
        ("--service", "unrouted"): {"nobody-1"},
        ("--service", "reporter", "--older-than", "1h"): set(),
        ("--newer-than", "1h", "--reason", "unknown_task"): {"nothing-1"},
    }
    for filters, ids in found.items():
        assert {letter["id"] for letter in listed(house, *filters)} == ids, filters
    # And people see them too
    assert "made to fail" in dlq(house, "list", "--reason", "failure")
    assert "ValueError: made to fail" in dlq(house, "show", "fail-1")
    dlq(house, "show", "no-such-id", exits=1)


def test_two_commands_do_not_take_each_others_letters(house: ComposeHouse, channel: amqp.Channel) -> None:
    # Given a letter that another reader has in its hands
    send(house, call("fail"))
    wait_for(channel, 1)
    with connect(house) as connection:
        connection.channel().basic_consume(DEAD, callback=lambda message: None)

        # Then a command says so, and does not show an empty queue
        dlq(house, "list", exits=5)

    # And later it is there
    until("the letter is back", lambda: waiting(channel) == 1)
    assert len(listed(house)) == 1


# --- Replaying --------------------------------------------------------------------------------------------------------


def test_a_replay_does_each_task_once_under_its_own_id(house: ComposeHouse, channel: amqp.Channel) -> None:
    # Given tasks that failed of something that is mended by now
    ids = closed_gate(house, channel, 25)

    # When they are replayed in small batches
    done = json.loads(dlq(house, "replay", "--task", "reporter.faulty.count", "--batch", "10", "--format", "json"))

    # Then each had its effect once, by its id, and no letter is left
    assert done["replayed"] == len(ids)
    until("all have run", lambda: len(effects(house)) >= len(ids))
    assert sorted(effects(house)) == [f"{id} first" for id in ids]
    assert waiting(channel) == 0


def test_a_replay_that_fails_again_counts_its_attempts_anew(house: ComposeHouse, channel: amqp.Channel) -> None:
    # Given a task that fails whatever one does, and one that was too late
    send(house, call("retry"), call("count", "late", headers={"expires": "2026-01-01T00:00:00+00:00"}))
    wait_for(channel, 2)

    # When both are replayed
    dlq(house, "replay", "--all")

    # Then the one is back after all of its attempts, and the other is not late any more
    until("the late one has run", lambda: [line.split()[0] for line in effects(house)] == ["late"])
    wait_for(channel, 1)
    (letter,) = listed(house)
    assert (letter["id"], letter["attempts"], letter["replays"]) == ("retry-1", 2, 1)


def test_a_replay_with_other_arguments_checks_them(house: ComposeHouse, channel: amqp.Channel) -> None:
    # Given a task that was called with too few arguments
    send(house, {"name": "reporter.fetch_repos", "kwargs": {"since": "2026-01-01"}, "task_id": "arguments-1"})
    wait_for(channel, 1)

    # When it is replayed with arguments that are wrong too, the letter stays
    wrong = json.dumps({"since": "2026-01-01", "per_page": 1000, "page": 1})
    assert "per_page" in dlq(house, "replay", "--id", "arguments-1", "--kwargs", wrong, exits=1)
    assert waiting(channel) == 1

    # When it is replayed with the right ones, it runs
    right = json.dumps({"since": "2026-01-01", "per_page": 1, "page": 1})
    dlq(house, "replay", "--id", "arguments-1", "--kwargs", right)
    until("the page was asked for", house.github.requests)
    assert waiting(channel) == 0


#: A program that replays as the command does, and dies at a moment of our choice.
DIES = (
    "import os\nfrom shared.app import app\nfrom shared.dead_letters.replay import Records, Replay\n"
    "from shared.dead_letters.shelf import Shelf\n"
    "records = Records(app.backend.client)\n"
    "with Shelf(app, 'reporter.dead') as shelf:\n"
    "    letter = next(iter(shelf))\n"
    "    {before_death}\n"
    "    os._exit(9)\n"
)


def test_a_replay_that_dies_after_the_brokers_confirmation_is_not_repeated(
    house: ComposeHouse, channel: amqp.Channel
) -> None:
    # Given a replay that died when the broker had the message, and the letter was not yet removed
    (id,) = closed_gate(house, channel, 1)
    assert house.publisher(DIES.format(before_death="Replay(app, records)(letter)")).returncode == 9
    until("it has run", lambda: effects(house) == [f"{id} first"])
    wait_for(channel, 1)

    # When the command runs again
    done = json.loads(dlq(house, "replay", "--all", "--format", "json"))

    # Then it removes the letter, and does not publish it
    assert done["already_replayed"] == 1
    assert waiting(channel) == 0
    send(house, call("count", "after"))
    until("what came after it has run", lambda: "after " in effects(house))
    assert Counter(line.split()[0] for line in effects(house)) == {id: 1, "after": 1}


def test_a_replay_that_dies_before_the_brokers_confirmation_leaves_a_doubt(
    house: ComposeHouse, channel: amqp.Channel
) -> None:
    # Given a replay that died when nobody could know whether the broker had the message
    (id,) = closed_gate(house, channel, 1)
    assert house.publisher(DIES.format(before_death="records.begin(letter.key)")).returncode == 9
    wait_for(channel, 1)

    # When the command runs again, it leaves the letter, and says so
    done = json.loads(dlq(house, "replay", "--all", "--format", "json", exits=1))
    assert [(one["id"], one["outcome"]) for one in done["left"]] == [(id, "in_doubt")]
    assert (waiting(channel), effects(house)) == (1, [])

    # And a person's word settles it
    dlq(house, "replay", "--all", "--in-doubt", "publish")
    until("it has run", lambda: effects(house) == [f"{id} first"])
    assert waiting(channel) == 0


@pytest.mark.parametrize("number", ["INT", "KILL"])
def test_a_replay_that_is_broken_off_goes_on_where_it_was(
    house: ComposeHouse, channel: amqp.Channel, number: str
) -> None:
    # Given a replay of so many letters that it takes seconds, which is broken off in the middle
    ids = [f"{number}-{id:04d}" for id in range(3000)]
    for id in ids:
        bury(channel, id)
    wait_for(channel, len(ids))
    name = f"{os.environ['COMPOSE_PROJECT_NAME']}-replay-{number.lower()}"
    started = house.compose("run", "--rm", "-d", "--no-deps", "--name", name, "cli", "dlq", "replay", "--all")
    assert started.returncode == 0, started.stderr
    until("some are replayed", lambda: effects(house))
    docker("kill", "--signal", number, name)
    until("the command has ended", lambda: name not in docker("ps", "--all", "--format", "{{.Names}}"))
    until("the letters are back", lambda: waiting(channel) > 0)
    assert waiting(channel) < len(ids)

    # When the same command runs again
    done = house.celery("dlq", "replay", "--all", "--format", "json")

    # Then the rest is replayed, and no task ran twice; of a killed one, one letter may be in doubt
    doubtful = [one["id"] for one in json.loads(done.stdout)["left"]]
    assert len(doubtful) <= (1 if number == "KILL" else 0)
    until("all have run", lambda: {line.split()[0] for line in effects(house)} >= set(ids) - set(doubtful))
    assert set(Counter(effects(house)).values()) == {1}
    assert waiting(channel) == len(doubtful)


def bury(channel: amqp.Channel, id: str) -> None:
    """Put a letter on the shelf as a worker does."""
    noted = {"reason": "failure", "exchange": "tasks", "routing_key": "reporter.faulty.count"}
    headers = {"task": "reporter.faulty.count", "id": id, "lang": "py", "dead-letter": noted}
    letter = amqp.Message(
        b"[[], {}, {}]",
        application_headers=headers,
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=2,
    )
    channel._basic_publish(letter, exchange="tasks.dead", routing_key="reporter")


# --- Dropping ---------------------------------------------------------------------------------------------------------


def test_what_is_dropped_is_exported_first(house: ComposeHouse, channel: amqp.Channel) -> None:
    # Given two letters
    send(house, call("fail"), call("reject"))
    wait_for(channel, 2)

    # When somebody drops, and does not say yes, nothing happens; nor without saying which
    dlq(house, "drop", "--reason", "failure", exits=1)
    dlq(house, "drop", "--yes", exits=2)
    assert waiting(channel) == 2

    # When they say yes
    lines = dlq(house, "drop", "--reason", "failure", "--yes", "--export", "-").splitlines()

    # Then what they meant is gone from the broker, and whole in the export
    assert [(json.loads(line)["id"], json.loads(line)["reason"]) for line in lines] == [("fail-1", "failure")]
    assert [letter["id"] for letter in listed(house)] == ["reject-1"]

    # And unless told otherwise, the export is a file of theirs
    done = json.loads(dlq(house, "drop", "--all", "--yes", "--format", "json"))
    exported = house.read(done["export"].removeprefix("reports/")).splitlines()
    assert [json.loads(line)["id"] for line in exported] == ["reject-1"]
    assert waiting(channel) == 0
