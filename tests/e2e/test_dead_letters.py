"""What cannot be done is a dead letter with its reason, and none is lost on the way."""

from datetime import datetime
from typing import Any

import amqp
import pytest

from tests.e2e.dead_letters import (
    KEPT,
    call,
    channel,
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

__all__ = ["channel", "faulty", "house"]  # fixtures

pytestmark = pytest.mark.containers

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
    for queue in KEPT:
        channel.queue_purge(queue)
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
    begun = "import pathlib; print(len(list(pathlib.Path('/reports/faulty').glob('begun-*'))))"
    until("all have begun", lambda: int(in_reporter(house, begun)) == len(ids))

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
