"""A scope goes with a task wherever it is called from, and nowhere else."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from celery import chain, chord, group
from celery.beat import Scheduler
from celery.schedules import schedule as Every

from shared.celery_config import headers
from shared.scope import current, scope
from shared.spec import Schedule
from tests.scope import worker
from tests.scope.conftest import Telling

ROOT = Path(__file__).parents[2]
FRENCH = {"locale": "fr", "scenario_id": 2}


@pytest.fixture
def label() -> str:
    """A name that no other leaf has."""
    return str(uuid4())


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """After each test, as before it, no scope is in force here."""
    yield
    assert current() == {}


@pytest.mark.parametrize("call", ["delay", "apply_async", "s", "si", "partial", "by name"])
def test_each_way_of_calling_carries_the_scope(house: Telling, label: str, call: str) -> None:
    # When a task is called inside a scope
    with scope(**FRENCH):
        match call:
            case "delay":
                worker.leaf.delay(label)
            case "apply_async":
                worker.leaf(label).apply_async()
            case "s":
                worker.leaf.s(label).delay()
            case "si":
                worker.leaf.si(label).delay()
            case "partial":
                worker.leaf.s().delay(label)
            case "by name":
                house.app.send_task("reporter.leaf", (label,))
    # Then it sees it
    assert house.scope_of(label) == FRENCH


@pytest.mark.parametrize("primitive", ["chain", "group", "chord", "map", "starmap", "chunks", "link", "link_error"])
def test_each_leaf_of_each_primitive_has_the_scope(house: Telling, label: str, primitive: str) -> None:
    one, two = labels = [f"{label}-1", f"{label}-2"]
    # When a canvas is called inside a scope
    with scope(**FRENCH):
        match primitive:
            case "chain":
                chain(worker.leaf.si(one), worker.leaf.si(two)).delay()
            case "group":
                group(worker.leaf.si(one), worker.leaf.si(two)).delay()
            case "chord":
                chord([worker.leaf.si(one)], worker.leaf.si(two)).delay()
            case "map":
                worker.leaf.map(labels).delay()
            case "starmap":
                worker.leaf.starmap([(one,), (two,)]).delay()
            case "chunks":
                worker.leaf.chunks([(one,), (two,)], 1).group().delay()
            case "link":
                worker.leaf.si(one).apply_async(link=worker.leaf.si(two))
            case "link_error":
                worker.failing.si(one).apply_async(link_error=worker.leaf.si(two))
    # Then each of its leaves sees it
    assert house.scopes(labels) == dict.fromkeys(labels, FRENCH)


def test_a_tick_of_beat_has_the_scope_of_its_entry(house: Telling, label: str) -> None:
    # Given an entry of the schedule with a scope, and one without
    ticks = [Schedule("reporter.leaf", every=1, scope=given) for given in (FRENCH, {})]
    beat = Scheduler(app=house.app, lazy=True)
    for number, tick in enumerate(ticks):
        # When beat publishes it, whatever scope it is in itself
        options = {"ignore_result": True, **headers(tick)}
        entry = beat.Entry(tick.name, tick.task, schedule=Every(1), args=(f"{label}-{number}",), options=options)
        beat.apply_async(entry)
    # Then its task sees that scope, and nothing else
    assert house.scopes([f"{label}-0", f"{label}-1"]) == {f"{label}-0": FRENCH, f"{label}-1": {}}


def test_a_signature_made_outside_takes_the_scope_in_which_it_is_published(house: Telling, label: str) -> None:
    made = worker.leaf.si(label)
    with scope(**FRENCH):
        made.delay()
    assert house.scope_of(label) == FRENCH


def test_a_signature_keeps_the_scope_in_which_it_was_made(house: Telling, label: str) -> None:
    with scope(locale="kk"):
        made = worker.leaf.si(label)
    with scope(**FRENCH):
        made.delay()
    assert house.scope_of(label) == {"locale": "kk"}


def test_a_signature_that_is_published_twice_is_not_changed_by_it(house: Telling, label: str) -> None:
    # Given a task with a scope and a callback without one
    with scope(locale="kk"):
        made = worker.leaf.s(label)
    made.link(worker.leaf.si(f"{label}-then"))
    # When it is published in one scope, and later in another
    for number, locale in enumerate(("fr", "ja")):
        with scope(locale=locale):
            made.clone().set(task_id=f"{label}-{number}").delay()
        # Then the callback has the scope of this time
        assert house.scope_of(f"{label}-then") == {"locale": locale}
        (house.seen / f"{label}-then").unlink()


def test_headers_of_the_caller_win(house: Telling, label: str) -> None:
    with scope(**FRENCH):
        worker.leaf.si(label).apply_async(headers={"scope": {"locale": "ja"}})
    assert house.scope_of(label) == {"locale": "ja"}


def test_a_header_may_be_json_text(house: Telling, label: str) -> None:
    worker.nested(label, 1, {}).apply_async(headers={"scope": '{"locale": "ja", "share": 0.5}'})
    assert house.scope_of(label) == {"locale": "ja", "share": 0.5}


def test_headers_of_the_caller_that_are_no_scope_leave_it_alone(house: Telling, label: str) -> None:
    with scope(**FRENCH):
        worker.leaf.si(label).apply_async(headers={"trace": "abc"})
    assert house.scope_of(label) == FRENCH


def test_a_header_that_is_no_scope_fails_the_task_clearly(house: Telling, label: str) -> None:
    result = worker.leaf.si(label).apply_async(headers={"scope": ["fr"]})
    with pytest.raises(Exception, match="scope: must be names with values, but is"):
        result.get(timeout=20)


def test_calls_from_task_to_task_inherit_three_levels_deep(house: Telling, label: str) -> None:
    with scope(**FRENCH):
        worker.nested(label, 3, {}).delay()
    assert house.scope_of(label) == FRENCH


def test_every_attempt_of_a_retry_has_the_scope(house: Telling, label: str) -> None:
    # Given a task whose attempts each fail inside a scope of their own
    with scope(**FRENCH):
        worker.retried(label, 2).delay()
    # Then every attempt has the caller's
    attempts = [f"{label}-{attempt}" for attempt in range(3)]
    assert house.scopes(attempts) == dict.fromkeys(attempts, FRENCH)


def test_a_retry_of_a_task_without_a_scope_has_none(house: Telling, label: str) -> None:
    worker.retried(label, 1).delay()
    assert house.scope_of(f"{label}-1") == {}


@pytest.mark.parametrize("built_inside", [True, False])
def test_an_error_callback_has_the_scope(house: Telling, label: str, built_inside: bool) -> None:
    after = worker.leaf.si(f"{label}-after")
    with scope(**FRENCH):
        if built_inside:
            after = worker.leaf.si(f"{label}-after")
        worker.failing(label).on_error(after).delay()
    assert house.scope_of(f"{label}-after") == FRENCH


def test_a_worker_that_failed_a_task_has_no_scope_left(house: Telling, label: str) -> None:
    # Given failures in a scope, in every thread of the worker
    with scope(**FRENCH):
        group(worker.failing(f"{label}-{number}") for number in range(24)).delay()
    house.scopes(f"{label}-{number}" for number in range(24))
    # When tasks without a scope run after them
    clean = [f"{label}-clean-{number}" for number in range(24)]
    group(worker.leaf.si(one) for one in clean).delay()
    # Then they see none
    assert house.scopes(clean) == {one: {} for one in clean}


@pytest.mark.parametrize("own", [None, "ja"])
def test_what_replaces_a_task_and_what_follows_it(house: Telling, label: str, own: str | None) -> None:
    # Given a chain without scopes of its own, whose first task replaces itself by a group that is made in a scope
    by = [f"{label}-a", f"{label}-b"]
    canvas = chain(worker.replaced.si(label, by, own), worker.leaf.si(f"{label}-then"))
    # When it is published in a scope
    with scope(**FRENCH):
        canvas.delay()
    # Then the group has the scope in which it was put in place, and the rest of the chain its own
    assert house.scopes(by) == dict.fromkeys(by, FRENCH | ({"locale": own} if own else {}))
    assert house.scope_of(f"{label}-then") == FRENCH


def test_scope_args_are_given_where_the_caller_left_them_out(house: Telling, label: str) -> None:
    with scope(**FRENCH):
        said = worker.greeting.s(label).delay().get(timeout=20)
    # `scenario_id` is in the scope, but not among the task's scope_args.
    assert said == {"locale": "fr", "scenario_id": None}


@pytest.mark.parametrize("locale", ["ja", None])
@pytest.mark.parametrize("by_place", [True, False])
def test_an_explicit_argument_always_wins(house: Telling, label: str, locale: str | None, by_place: bool) -> None:
    with scope(**FRENCH):
        call = worker.greeting.s(label, locale) if by_place else worker.greeting.s(label, locale=locale)
        assert call.delay().get(timeout=20)["locale"] == locale


def test_a_task_may_have_a_scope_and_a_log_of_its_own(house: Telling, label: str) -> None:
    with scope(**FRENCH):
        assert worker.logged.s(label).delay().get(timeout=20) == "fr"
    log = Path(house.environ["TASK_LOG_DIR"]) / "reporter.logged.log"
    assert f"{label} in fr" in log.read_text()


def test_scope_args_hold_for_each_item_of_a_map(house: Telling, label: str) -> None:
    with scope(**FRENCH):
        said = worker.greeting.map([f"{label}-{n}" for n in range(2)]).delay().get(timeout=20)
    assert [one["locale"] for one in said] == ["fr", "fr"]


# --- Callers ----------------------------------------------------------------------------------------------------------


def test_two_hundred_publishers_at_once_do_not_leak_into_each_other(house: Telling, label: str) -> None:
    # Given 200 callers, every fourth without a scope
    expected = {f"{label}-{number}": {"caller": number} if number % 4 else {} for number in range(200)}

    def publish(one: str) -> None:
        with scope(**expected[one]):
            worker.leaf.delay(one)

    # When they publish from 50 threads
    with ThreadPoolExecutor(50) as callers:
        list(callers.map(publish, expected))
    # Then each task sees its caller's scope
    assert house.scopes(expected) == expected


def test_asyncio_callers(house: Telling, label: str) -> None:
    expected = {f"{label}-{number}": {"caller": number} for number in range(20)}

    async def publish(one: str) -> None:
        with scope(**expected[one]):
            await asyncio.sleep(0)
            await asyncio.to_thread(worker.leaf.delay, one)

    async def main() -> None:
        await asyncio.gather(*map(publish, expected))

    asyncio.run(main())
    assert house.scopes(expected) == expected


_GEVENT = """
from gevent import monkey, pool, sleep
monkey.patch_all()
import sys
from shared.app import create_app
from shared.scope import scope
from tests.scope import worker
app = create_app()
def publish(number):
    with scope(caller=number):
        sleep(0.01)
        worker.leaf.delay(f"{sys.argv[1]}-{number}")
list(pool.Pool(20).imap_unordered(publish, range(20)))
"""
_PROCESS = """
import sys
from shared.app import create_app
from shared.scope import scope
from tests.scope import worker
app = create_app()
for number in range(20):
    with scope(caller=number):
        worker.leaf.delay(f"{sys.argv[1]}-{number}")
"""


@pytest.mark.parametrize("program", [_GEVENT, _PROCESS], ids=["gevent", "another process"])
def test_callers_in_greenlets_and_in_another_process(house: Telling, label: str, program: str) -> None:
    environ = {name: value for name, value in house.environ.items() if name != "TELL_SCOPES"}
    done = subprocess.run(
        [sys.executable, "-c", program, label], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    expected = {f"{label}-{number}": {"caller": number} for number in range(20)}
    assert house.scopes(expected) == expected


def test_a_leaf_runs_once(house: Telling, label: str) -> None:
    # So that none of the above passes by a second message.
    with scope(**FRENCH):
        group(worker.leaf.si(f"{label}-{n}") for n in range(5)).delay().get(timeout=20)
    counted = Counter(path.name for path in house.seen.iterdir() if path.name.startswith(label))
    assert set(counted.values()) == {1}
    assert json.loads((house.seen / f"{label}-0").read_text()) == FRENCH
