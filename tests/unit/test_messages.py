"""What a task's message must look like."""

from typing import Any

import pytest
from celery import chain, chord, group
from hypothesis import given
from hypothesis import strategies as st

from shared.messages import fault
from shared.signatures import reporter as contract
from tests.unit.app.recording import MakeApp, announced

HEADERS = {"task": "reporter.fetch_repos", "id": "1"}
BODY: list[Any] = [[], {}, {}]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_what_celery_publishes_is_a_tasks_message(make_app: MakeApp) -> None:
    # Given every canvas that Celery has
    make_app()
    fetch = contract.fetch_repos("2026-01-01", 1, 1)  # type: ignore[arg-type]  # a date as text, as pydantic takes it
    build = contract.build_report.s()
    canvases = [
        fetch,
        fetch | build,
        group(fetch, fetch),
        chord([fetch, fetch], build),
        chain(fetch, group(build, build)),
    ]

    # When each is published, also with options and callbacks
    with announced() as heard:
        for canvas in canvases:
            canvas.apply_async()
        fetch.clone().apply_async(
            countdown=5, expires=60, time_limit=5, soft_time_limit=4, link=build, link_error=build
        )

    # Then nothing is wrong with any of the messages
    assert len(heard) >= len(canvases)
    assert [fault(one["headers"], one["body"]) for one in heard] == [None] * len(heard)


@pytest.mark.parametrize("headers", [None, {}, {"task": "x"}, {"id": "x"}, {"task": ["x"], "id": "x"}])
def test_a_message_without_its_name_or_id_is_told(headers: Any) -> None:
    assert fault(headers, BODY)


@pytest.mark.parametrize("name", ["eta", "expires", "retries", "timelimit", "root_id", "stamped_headers", "group"])
@pytest.mark.parametrize("value", [{"a": 1}, object()])
def test_a_header_of_the_wrong_kind_is_named(name: str, value: Any) -> None:
    assert name in (fault({**HEADERS, name: value}, BODY) or "")


@given(JSON)
def test_any_json_is_told_from_a_tasks_body(payload: Any) -> None:
    # When any JSON comes as a body
    told = fault(HEADERS, payload)

    # Then it is a task's only where it can be taken apart as one
    if told is None:
        args, kwargs, embedded = payload
        assert isinstance(args, list) and isinstance(kwargs, dict)
        assert embedded is None or isinstance(embedded, dict)


@given(st.dictionaries(st.sampled_from([*HEADERS, "eta", "retries", "timelimit", "group", "stamps"]), JSON))
def test_any_headers_are_answered_in_words(headers: dict[str, Any]) -> None:
    assert fault(headers, BODY) is None or isinstance(fault(headers, BODY), str)
