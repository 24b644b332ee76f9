"""What cannot be done is a dead letter with its reason; an operator looks, replays and drops without losing one."""

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import amqp
import pytest

from tests.e2e.houses import ComposeHouse
from tests.e2e.test_cluster import until
from tests.e2e.test_malformed import connect

pytestmark = pytest.mark.containers

DEAD = "reporter.dead"
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
    for queue in ("reporter", DEAD, "unrouted"):
        channel.queue_purge(queue)
    return faulty


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, timeout=60).stdout


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


def closed_gate(house: ComposeHouse, channel: amqp.Channel, count: int) -> list[str]:
    """Dead letters of tasks that would do something, were a gate not closed; the gate is opened again."""
    in_reporter(house, "open('/reports/faulty/closed', 'w')")
    ids = [f"count-{number:04d}" for number in range(count)]
    send(house, *(call("count", id, kwargs={"text": "first"}) for id in ids))
    wait_for(channel, count)
    in_reporter(house, "import os; os.remove('/reports/faulty/closed')")
    return ids


# --- Each end of a task -----------------------------------------------------------------------------------------------

#: What is called; then its reason, a part of what was raised, and how often it was begun.
ENDS: dict[str, tuple[dict[str, Any], str, str, int]] = {
    "it raises": (call("fail"), "failure", "ValueError: made to fail", 1),
    "it raises after a delay": (call("fail", "late", countdown=1), "failure", "ValueError: made to fail", 1),
    "its retries are exhausted": (call("retry"), "retries_exhausted", "ConnectionError: nobody answers", 2),
    "it ends at its soft limit": (
        call("hang", "soft", soft_time_limit=1, time_limit=30),
        "soft_timeout",
        "SoftTimeLimitExceeded",
        1,
    ),
    "it is killed at its hard limit": (
        call("hang", "hard", soft_time_limit=1, time_limit=2, kwargs={"stubborn": True}),
        "timeout",
        "TimeLimitExceeded",
        1,
    ),
    "it ends its process each time": (call("die"), "delivery_limit", "WorkerLostError", 6),
    "it refuses its message": (call("reject"), "rejected", "unwanted", 1),
    "nobody knows it": (call("nothing"), "unknown_task", "no task 'reporter.faulty.nothing'", 1),
    "its arguments are wrong": (
        {"name": "reporter.fetch_repos", "kwargs": {"since": "2026-01-01"}, "task_id": "arguments-1"},
        "invalid_arguments",
        "missing a required argument: 'per_page'",
        1,
    ),
    "it is too late": (call("fail", "expired", headers={"expires": "2026-01-01T00:00:00+00:00"}), "expired", "", 1),
}


@pytest.fixture(scope="module")
def ended(faulty: ComposeHouse, channel: amqp.Channel) -> dict[str, dict[str, Any]]:
    """The dead letter of each, by the task's id."""
    channel.queue_purge(DEAD)
    send(faulty, *(asked for asked, *_ in ENDS.values()))
    wait_for(channel, len(ENDS))
    letters = listed(faulty)
    assert len(letters) == len(ENDS)
    return {letter["id"]: letter for letter in letters}


@pytest.mark.parametrize("end", ENDS)
def test_an_end_is_told_by_its_dead_letter(ended: dict[str, dict[str, Any]], end: str) -> None:
    # Given a task that ends so
    asked, reason, raised, attempts = ENDS[end]

    # Then its dead letter says why, after how many attempts, where, and what was asked
    letter = ended[asked["task_id"]]
    assert (letter["reason"], letter["attempts"]) == (reason, attempts)
    assert raised in letter["exception"]
    assert letter["host"].startswith("reporter@")
    assert datetime.fromisoformat(letter["first"]) < datetime.fromisoformat(letter["last"])
    assert (letter["task"], letter["exchange"], letter["routing_key"]) == (asked["name"], "tasks", asked["name"])
    assert letter["payload"][:2] == [[], asked.get("kwargs", {})]
    # And where code of the task ran, the way to the error
    if reason in ("failure", "retries_exhausted", "soft_timeout"):
        assert "services/reporter/faulty.py" in letter["traceback"]


def test_a_revoked_task_is_no_lost_task(house: ComposeHouse, channel: amqp.Channel) -> None:
    # Given a task that an operator revokes before its time, and one while it runs
    send(house, call("hang", "running"))
    until("it runs", lambda: "running" in house.celery("inspect", "active", "--json").stdout)
    assert house.celery("control", "revoke", "early").returncode == 0
    send(house, call("fail", "early"))

    # When the running one is ended
    assert house.celery("control", "terminate", "SIGKILL", "running").returncode == 0

    # Then both are dead letters that say so
    wait_for(channel, 2)
    assert {(letter["id"], letter["reason"]) for letter in listed(house)} == {
        ("early", "revoked"),
        ("running", "revoked"),
    }


def test_a_message_that_is_no_task_says_what_is_wrong_with_it(house: ComposeHouse, channel: amqp.Channel) -> None:
    # Given bytes that are no JSON
    headers = {"task": "reporter.fetch_repos", "id": "noise", "lang": "py"}
    message = amqp.Message(b"\xff\xfe", application_headers=headers, content_type="application/json")
    channel.basic_publish(message, exchange="tasks", routing_key="reporter.fetch_repos")
    wait_for(channel, 1)

    # Then the letter holds them as they are, and the reason
    (letter,) = listed(house)
    assert (letter["reason"], letter["id"], letter["body_base64"]) == ("malformed", "noise", "//4=")
    assert "UnicodeDecodeError" in letter["exception"]


def test_what_the_broker_buries_itself_has_its_reason_too(house: ComposeHouse, channel: amqp.Channel) -> None:
    # Given a service that is down
    assert house.compose("stop", "reporter").returncode == 0
    try:
        # In this order: a queue looks at the end of its first message alone.
        send(house, call("fail", "late", expires=1), call("fail", "tired"))

        # When one message expires in the queue, and the other is given back more often than it may be
        wait_for(channel, 1)
        for _ in range(6):
            wait_for(channel, 1, "reporter")
            message = channel.basic_get("reporter")
            assert message.headers["id"] == "tired"
            channel.basic_reject(message.delivery_tag, requeue=True)
        wait_for(channel, 2)
    finally:
        house.compose("up", "-d", "--wait", "--no-deps", "reporter")

    # Then both say so; no worker had them
    letters = {letter["id"]: letter for letter in listed(house)}
    assert {id: letter["reason"] for id, letter in letters.items()} == {"tired": "delivery_limit", "late": "expired"}
    assert letters["tired"]["attempts"] == 6
    for letter in letters.values():
        assert (letter["exchange"], letter["routing_key"]) == ("tasks", "reporter.faulty.fail")
        assert (letter["host"], letter["traceback"]) == ("", "")


def test_a_letter_that_cannot_be_published_is_moved_by_the_broker(house: ComposeHouse, channel: amqp.Channel) -> None:
    # Given a reporter that may not write dead letters
    rights = house.compose("exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "list_user_permissions", "reporter").stdout
    configure, write, read = rights.splitlines()[1].split("\t")[1:]
    rabbitmqctl = ("exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "set_permissions", "reporter")
    assert house.compose(*rabbitmqctl, configure, write.replace(r"tasks\.dead|", ""), read).returncode == 0
    try:
        # When tasks fail
        send(house, call("fail", "one"), call("fail", "two"))
        wait_for(channel, 2)
    finally:
        house.compose(*rabbitmqctl, configure, write, read)

    # Then none is lost, though the reason is
    assert {(letter["id"], letter["reason"]) for letter in listed(house)} == {("one", "rejected"), ("two", "rejected")}


def test_a_broker_that_takes_no_publish_still_gets_its_dead_letters(house: ComposeHouse, channel: amqp.Channel) -> None:
    # Given tasks that wait for a worker, and an alarm, which makes every publisher wait
    alarm = ("exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "set_vm_memory_high_watermark")
    send(house, *(call("fail", f"alarmed-{number}", countdown=5) for number in range(5)))
    assert house.compose(*alarm, "0").returncode == 0
    try:
        # When they fail, then they are dead letters all the same
        wait_for(channel, 5)
    finally:
        assert house.compose(*alarm, "0.4").returncode == 0

    # And the worker works as before
    send(house, call("count", "after"))
    until("what came after the alarm has run", lambda: effects(house) == ["after "])


def test_a_worker_that_is_stopped_finishes_what_it_runs(house: ComposeHouse, channel: amqp.Channel) -> None:
    # Given tasks that take a while, and have begun
    ids = {"slow-1", "slow-2", "slow-3"}
    send(house, *(call("slow", id) for id in ids))
    until("all are running", lambda: house.celery("inspect", "active", "--json").stdout.count("slow-") >= len(ids))

    # When their worker is stopped, as at an upgrade
    assert house.compose("stop", "reporter").returncode == 0
    house.compose("up", "-d", "--wait", "--no-deps", "reporter")

    # Then each has had its effect once, and nothing is left to do
    assert sorted(effects(house)) == [f"{id} slow" for id in sorted(ids)]
    assert (waiting(channel, "reporter"), waiting(channel)) == (0, 0)


def test_no_service_writes_dead_letters_in_anothers_name(house: ComposeHouse, channel: amqp.Channel) -> None:
    # When the reporter's user writes a dead letter of its own, and one of somebody else
    script = (
        "import amqp\nfrom services.reporter.app import app\n"
        "connection = app.connection_for_write()\nconnection.connect()\n"
        "for key in ('reporter', 'mailer'):\n"
        "    try:\n"
        "        connection.channel().basic_publish(amqp.Message('{}'), exchange='tasks.dead', routing_key=key)\n"
        "        print(key, 'taken')\n"
        "    except amqp.AccessRefused:\n        print(key, 'refused')\n"
    )

    # Then the broker takes the one and refuses the other
    assert in_reporter(house, script).split("\n")[:2] == ["reporter taken", "mailer refused"]


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
