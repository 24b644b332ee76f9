"""What is published when a dead letter is replayed. That it is published once, tests/e2e/test_dlq.py shows."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.dead_letters.letter import DeadLetter, read
from shared.dead_letters.replay import NotReplayable, Replay
from shared.errors import InvalidArguments
from tests.unit.test_dead_letters import BODY, HEADERS, message

ASKED = {"since": "2026-01-01", "per_page": 10, "page": 1}


def letter(
    queue: str = "reporter.dead", body: bytes = BODY, key: str = "reporter.fetch_repos", **noted: Any
) -> DeadLetter:
    note = {"reason": "failure", "exchange": "tasks", "routing_key": key, **noted}
    headers = {**HEADERS, "expires": "2026-01-01", "replays": 1, "dead-letter": note, "x-delivery-count": 4}
    return read(queue, message(headers, body, delivery_info={"exchange": "tasks", "routing_key": key}))


def published(there: DeadLetter, **options: Any) -> tuple[str, dict[str, Any], bytes]:
    again = Replay(None, None, **options)._message(there)  # type: ignore[arg-type]  # neither is asked
    return again.routing_key, again.headers, again.body


def test_a_replay_is_the_message_as_it_was_at_its_beginning() -> None:
    # Given a letter of a task that had been retried twice and replayed once
    key, headers, body = published(letter())
    # Then it goes where its publisher sent it, whole, with all of its attempts
    assert (key, body) == ("reporter.fetch_repos", BODY)
    due = headers.pop("due")
    assert abs(datetime.fromisoformat(due) - datetime.now(UTC)) < timedelta(minutes=1)
    assert headers == {**HEADERS, "expires": "2026-01-01", "retries": 0, "replays": 2}


def test_what_was_too_late_is_so_no_more() -> None:
    assert published(letter(reason="expired"))[1]["expires"] is None


def test_what_went_to_everyone_is_repeated_where_it_failed() -> None:
    # Given a task for every service, which one of them gave up; the others have done it
    assert published(letter(key="all.ping"))[0] == "reporter.all.ping"


def test_other_arguments_take_the_place_of_the_letters() -> None:
    # Given a letter with a callback, and arguments that were wrong
    there = letter(body=json.dumps([[], {"page": 0}, {"callbacks": [{"task": "x"}]}]).encode())
    # When it is replayed with others
    _, headers, body = published(there, args=(), kwargs=ASKED)
    # Then these are published, and what follows the task stays
    assert json.loads(body) == [[], ASKED, {"callbacks": [{"task": "x"}]}]
    assert headers["kwargsrepr"] == repr(ASKED)


def test_other_arguments_must_be_the_tasks() -> None:
    with pytest.raises(InvalidArguments, match="per_page"):
        published(letter(), kwargs={**ASKED, "per_page": 1000})


@pytest.mark.parametrize(
    ("there", "options", "says"),
    [
        (letter(body=b"\xff"), {}, "no task can be made of it"),
        (letter(body=b"5"), {}, "a list of three"),
        (letter("unrouted", key="nobody.does_this"), {}, "no service takes 'nobody.does_this'"),
    ],
    ids=["no JSON", "a number", "a task of no service"],
)
def test_what_would_come_straight_back_is_not_replayed(there: DeadLetter, options: Any, says: str) -> None:
    with pytest.raises(NotReplayable, match=says):
        published(there, **options)


def test_what_no_service_took_is_replayed_once_one_does() -> None:
    assert published(letter("unrouted"))[0] == "reporter.fetch_repos"
