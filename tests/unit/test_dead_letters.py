"""What a dead letter says: written by a worker, or noted by the broker, and read by an operator."""

import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from amqp.serialization import dumps
from hypothesis import given
from hypothesis import strategies as st
from kombu.message import Message

from shared.dead_letters import burial
from shared.dead_letters.cause import HEADER, LONGEST_TRACEBACK, Cause, Reason, origin, published_headers
from shared.dead_letters.letter import read
from shared.dead_letters.selection import InvalidAge, Selection, seconds

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HEADERS = {"task": "reporter.fetch_repos", "id": "7", "lang": "py", "retries": 2, "first_published": "2026-11-20T11:00"}
BODY = b"[[], {}, {}]"


def message(headers: Any = None, body: Any = BODY, **options: Any) -> Message:
    """As kombu hands it to a consumer."""
    options.setdefault("delivery_info", {"exchange": "tasks", "routing_key": "reporter.fetch_repos"})
    return Message(
        body=body,
        headers=HEADERS if headers is None else headers,
        content_type="application/json",
        content_encoding="utf-8",
        **options,
    )


def death(reason: str, **more: Any) -> dict[str, Any]:
    """The headers that RabbitMQ adds to a message which it buries."""
    one = {"reason": reason, "queue": "reporter", "exchange": "tasks", "routing-keys": ["reporter.fetch_repos"]}
    return {"x-death": [{**one, "time": datetime(2026, 11, 20, 11, 30), "count": 1, **more}]}


# --- What a worker writes ---------------------------------------------------------------------------------------------


def test_a_cause_tells_all_that_is_known() -> None:
    # Given a message at its third retry, delivered for the second time
    there = message({**HEADERS, "x-delivery-count": 1})

    # When it is given up
    noted = Cause.of(Reason.FAILURE, ValueError("no such page"), "Traceback ...").header(there, host="h", now=NOW)

    # Then the header says so
    assert noted == {
        "reason": "failure",
        "exception": "ValueError: no such page",
        "traceback": "Traceback ...",
        "attempts": 4,
        "host": "h",
        "first": "2026-11-20T11:00",
        "last": "2026-11-20T12:00:00+00:00",
        "exchange": "tasks",
        "routing_key": "reporter.fetch_repos",
    }


def test_an_error_whose_text_cannot_be_made_is_named_all_the_same() -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert Cause.of(Reason.FAILURE, Rude()).exception.endswith("Rude")


def test_a_delay_is_no_origin() -> None:
    # Given a message that the broker held for five seconds
    bits = "0." * 25 + "1.0.1."
    # Then its origin is what its publisher named; any other is left as it is
    assert origin("celery_delayed_delivery", f"{bits}reporter.fetch_repos") == ("tasks", "reporter.fetch_repos")
    assert origin("tasks", "all.ping") == ("tasks", "all.ping")
    assert origin(None, None) == ("", "")


def test_headers_are_bounded_by_a_frame() -> None:
    # Given an error that says far more than a frame holds, in letters of four bytes
    cause = Cause.of(Reason.FAILURE, ValueError("\N{PILE OF POO}" * 100_000), "\N{PILE OF POO}" * 100_000 + "its end")

    # When the letter is made
    _, options = burial._letter(message(), cause.header(message(), host="h"))

    # Then it fits, and the end of the traceback is there
    assert len(dumps("F", [options["headers"]])) < burial.LARGEST_HEADERS
    assert options["headers"][HEADER]["traceback"].endswith("its end")
    assert len(options["headers"][HEADER]["traceback"]) == LONGEST_TRACEBACK


def test_a_letter_does_not_expire_nor_go_elsewhere() -> None:
    # Given a message that would expire, has another user's name, and copies for others
    there = message(
        {**HEADERS, "CC": ["mailer"], "BCC": ["mailer"], "x-death": [], "x-delivery-count": 3},
        properties={"expiration": "1000", "user_id": "beat", "correlation_id": "7", "priority": 3, "delivery_mode": 2},
    )

    # When its letter is made
    body, options = burial._letter(there, {"reason": "failure"})

    # Then what was published is there, without any of that
    assert options["headers"] == {**HEADERS, HEADER: {"reason": "failure"}}
    assert options["properties"] == {"correlation_id": "7", "delivery_mode": 2}
    assert (body, options["priority"]) == (BODY, 3)


def test_a_body_that_kombu_has_unpacked_says_so_no_more() -> None:
    # Given a compressed message, and one whose compression is a lie
    packed = message({**HEADERS, "compression": "application/x-gzip"}, zlib.compress(BODY))
    lie = message({**HEADERS, "compression": "application/x-gzip"}, b"\x00")

    # Then the letter of the one is plain, and that of the other as it came
    assert (burial._letter(packed, {})[0], "compression" in burial._letter(packed, {})[1]["headers"]) == (BODY, False)
    assert (burial._letter(lie, {})[0], "compression" in burial._letter(lie, {})[1]["headers"]) == (b"\x00", True)


@pytest.mark.parametrize(
    ("headers", "body"),
    [({**HEADERS, "scope": "x" * 130_000}, BODY), (HEADERS, b"x" * (16 * 2**20 + 1)), ({**HEADERS, "n": 2**70}, BODY)],
    ids=["headers beyond a frame", "a body beyond the broker's limit", "a number beyond AMQP"],
)
def test_what_cannot_be_said_again_is_left_to_the_broker(
    make_app: Any, cluster: dict[str, str], headers: Any, body: bytes
) -> None:
    # Given a message that nobody could publish
    app = make_app("reporter", **cluster)
    buries = burial.Burial(app, "h")

    # Then it is not buried, without an attempt, and others are not kept waiting for it
    assert not buries.bury(message(headers, body), Cause(Reason.FAILURE))
    assert buries._rest_until == 0


def test_a_broker_that_is_away_holds_a_worker_up_once(make_app: Any, cluster: dict[str, str]) -> None:
    # Given a broker that nobody can reach
    buries = burial.Burial(make_app("reporter", **{**cluster, "broker_url": "amqp://reporter@127.0.0.1:1//"}), "h")

    # When a message is to be buried, it is not; and the next ones are not even tried
    assert not buries.bury(message(), Cause(Reason.FAILURE))
    assert buries._rest_until > 0
    buries._open = None  # type: ignore[assignment,method-assign]  # would fail if it were called
    assert not buries.bury(message(), Cause(Reason.FAILURE))


def test_without_a_broker_nothing_is_buried(make_app: Any) -> None:
    assert not burial.Burial(make_app("reporter"), "h").bury(message(), Cause(Reason.FAILURE))


# --- What an operator reads -------------------------------------------------------------------------------------------


def test_what_a_worker_wrote_is_read() -> None:
    noted = Cause.of(Reason.TIMEOUT, TimeoutError("90")).header(message(), host="reporter@h", now=NOW)
    letter = read("reporter.dead", message({**HEADERS, HEADER: noted}))
    assert (letter.id, letter.task, letter.reason, letter.host) == (
        "7",
        "reporter.fetch_repos",
        "timeout",
        "reporter@h",
    )
    assert (letter.payload, letter.headers) == ([[], {}, {}], HEADERS)
    assert letter.age(NOW + timedelta(seconds=9)) == 9


@pytest.mark.parametrize(
    ("noted", "reason", "attempts"),
    [
        ("rejected", "rejected", 3),
        ("expired", "expired", 3),
        ("delivery_limit", "delivery_limit", 8),
        ("?", "rejected", 3),
    ],
)
def test_what_the_broker_noted_is_read(noted: str, reason: str, attempts: int) -> None:
    # Given a letter that no worker wrote, looked at 9 times
    letter = read("reporter.dead", message({**HEADERS, **death(noted), "x-delivery-count": 9}))
    # Then what the broker noted is there
    assert (letter.reason, letter.attempts, letter.host) == (reason, attempts, "")
    assert (letter.exchange, letter.routing_key) == ("tasks", "reporter.fetch_repos")
    assert (letter.first, letter.last) == ("2026-11-20T11:00", "2026-11-20T11:30:00+00:00")


def test_a_letter_keeps_its_key_however_often_it_is_looked_at() -> None:
    once, often = ({**HEADERS, **death("rejected"), "x-delivery-count": count} for count in (1, 30))
    assert read("reporter.dead", message(once)).key == read("reporter.dead", message(often)).key


@pytest.mark.parametrize(
    "other",
    [
        message({**HEADERS, **death("rejected", count=2)}),
        message({**HEADERS, **death("rejected"), "replays": 1}),
        message({**HEADERS, **death("rejected")}, b"[[1], {}, {}]"),
        message({**HEADERS, **death("rejected"), "id": "8"}),
    ],
    ids=["dead twice", "replayed", "another body", "another task"],
)
def test_another_letter_has_another_key(other: Message) -> None:
    assert read("reporter.dead", message({**HEADERS, **death("rejected")})).key != read("reporter.dead", other).key


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(["task", "id", "retries", "x-death", HEADER, "replays", "first_published"]), anything
    ),
    st.binary() | st.text(),
)
def test_any_message_can_be_read(headers: Any, body: Any) -> None:
    letter = read("reporter.dead", message(headers, body))
    assert letter.as_dict()["key"] == letter.key
    assert letter not in Selection(tasks=("no such task",))


@given(st.dictionaries(st.text(), anything))
def test_the_publishers_headers_are_all_that_stays(headers: dict[str, Any]) -> None:
    stays = published_headers(headers)
    assert stays.items() <= headers.items()
    assert all(name.startswith("x-") or name.lower() in ("cc", "bcc", HEADER) for name in headers.keys() - stays.keys())


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("15m", 900), ("2h", 7200), ("3d", 259200), ("1w", 604800)])
def test_an_age_is_a_number_and_a_unit(text: str, value: int) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "h", "5", "-5m", "1.5h", "5 m", "5y", "٥m"])
def test_any_other_age_is_refused(text: str) -> None:
    with pytest.raises(InvalidAge, match="90s, 15m, 2h or 3d"):
        seconds(text)
