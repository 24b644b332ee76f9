"""A scope is small JSON; anything else is refused where it is set."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from celery.app.trace import trace_task
from celery.exceptions import Ignore
from hypothesis import given
from hypothesis import strategies as st

from shared.app import App
from shared.errors import Final, InvalidArguments
from shared.scope import LARGEST, InvalidScope, current, exactly, scope
from shared.signatures import Declaration
from shared.tasks import implements

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), JSON, max_size=4))
def test_json_is_in_force_inside_the_block_and_gone_after_it(values: dict[str, Any]) -> None:
    with scope(**values):
        assert current() == values
    assert current() == {}


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "who is <object"),
        ({1, 2}, "who is {1, 2} (set)"),
        ((1, 2), "(tuple)"),
        (b"bytes", "(bytes)"),
        (float("nan"), "(float)"),
        (float("inf"), "(float)"),
        (2**63, "(int)"),
        ("\ud800", "(str)"),
        ({"deep": [1, object()]}, "who.deep[1] is"),
        ({1: "one"}, "the key 1 of who"),
        ({"k" * 256: 1}, "must be a text of 255 bytes"),
        ("x" * LARGEST, f"may be {LARGEST}"),
    ],
)
def test_what_json_or_a_header_cannot_carry_is_refused_where_it_is_set(value: Any, named: str) -> None:
    # When such a value is set
    # Then it is refused at once, by the name of the value, and nothing is in force
    with pytest.raises(InvalidScope) as refused, scope(who=value):
        raise AssertionError("must not be reached")
    assert named in str(refused.value)
    assert isinstance(refused.value, InvalidArguments)
    assert current() == {}


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidScope, match="who contains itself"), scope(who=loop):
        raise AssertionError("must not be reached")


def test_an_inner_scope_lies_on_top_of_the_outer_one() -> None:
    with scope(locale="fr", scenario_id=2):
        with scope(locale="ja"):
            assert current() == {"locale": "ja", "scenario_id": 2}
        assert current() == {"locale": "fr", "scenario_id": 2}


def test_a_scope_is_gone_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), scope(locale="fr"):
        raise ZeroDivisionError
    assert current() == {}


def test_nobody_can_change_a_scope_from_outside() -> None:
    given = {"tags": ["a"]}
    with scope(**given):
        given["tags"].append("b")
        current()["tags"].append("c")
        assert current() == {"tags": ["a"]}


def test_exactly_replaces_what_is_in_force() -> None:
    with scope(locale="fr"), exactly({"scenario_id": 2}):
        assert current() == {"scenario_id": 2}
    with scope(locale="fr"), exactly("no scope at all"):
        assert current() == {}


def test_a_scope_decorates_a_function() -> None:
    @scope(locale="kk")
    def look() -> Any:
        return current()

    assert look() == {"locale": "kk"} and current() == {}


def test_threads_do_not_see_each_others_scopes() -> None:
    # Given two threads that are inside their scopes at the same moment
    both, seen = threading.Barrier(2, timeout=10), {}

    def look(locale: str) -> None:
        with scope(locale=locale):
            both.wait()
            seen[locale] = current()
            both.wait()

    threads = [threading.Thread(target=look, args=(locale,)) for locale in ("fr", "ja")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Then each saw its own, and this thread neither
    assert seen == {"fr": {"locale": "fr"}, "ja": {"locale": "ja"}}
    assert current() == {}


def test_asyncio_tasks_do_not_see_each_others_scopes() -> None:
    async def look(locale: str, all_inside: asyncio.Barrier) -> Any:
        with scope(locale=locale):
            await all_inside.wait()
            # A task and a thread that are started inside take the scope along.
            return current(), await asyncio.create_task(later()), await asyncio.to_thread(current)

    async def later() -> Any:
        return current()

    async def main() -> Any:
        all_inside = asyncio.Barrier(2)
        return await asyncio.gather(look("fr", all_inside), look("ja", all_inside))

    assert asyncio.run(main()) == [({"locale": one},) * 3 for one in ("fr", "ja")]


def test_a_schedule_has_its_scope_in_the_header(make_app: Callable[..., App], monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a tick with a scope
    from dataclasses import replace

    import shared.celery_config
    from shared.spec import Schedule
    from shared.topology import SERVICES

    tick = Schedule("reporter.produce_report", "0 0 * * *", {"period": "day"}, scope={"locale": "kk"})
    monkeypatch.setattr(shared.celery_config, "SERVICES", (replace(SERVICES[0], schedules=(tick,)),))
    # When beat's app is made
    (entry,) = make_app().conf.beat_schedule.values()
    # Then the entry publishes it
    assert entry["options"]["headers"] == {"scope": {"locale": "kk"}}


@pytest.mark.parametrize("outcome", ["success", "failure", "retry", "ignored"])
def test_a_run_leaves_nothing_behind_in_its_thread(make_app: Callable[..., App], outcome: str) -> None:
    # Given a worker's task, and Celery's own code that runs one
    app, seen = make_app("reporter"), []

    def look() -> None:
        raise NotImplementedError

    @implements(Declaration("reporter.look", look, keeps_result=False), app, bind=True)
    def run(task: Any) -> None:
        seen.append(current())
        match outcome:
            case "failure":
                raise Final("as asked")
            case "retry":
                raise task.retry(countdown=0)
            case "ignored":
                raise Ignore

    # When it runs with a scope in its message, in a thread that has another
    with scope(locale="fr"):
        request = {"id": "an-id", "scope": {"locale": "ja"}, "delivery_info": {}, "retries": 0, "is_eager": False}
        trace_task(app.tasks["reporter.look"], "an-id", [], {}, request, app=app)
        # Then it saw its own, and the thread's is in force again
        assert seen == [{"locale": "ja"}]
        assert current() == {"locale": "fr"}
