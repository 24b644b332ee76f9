"""The embedded mode's result store: it counts, it forgets, and progress never overwrites an answer."""

import json
import multiprocessing
import pickle
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from celery import states
from celery.app.task import Context
from celery.result import AsyncResult

from shared.app import App
from shared.results import progress
from shared.results.sqlite import SqliteBackend
from shared.trace import facts

PROCESSES = 8

# Forked, so that a test's own functions can run in them.
processes = multiprocessing.get_context("fork")


@pytest.fixture
def app(make_app: Callable[..., App]) -> App:
    return make_app()


@pytest.fixture
def store(app: App) -> SqliteBackend:
    """The store of an embedded app, as the app itself makes it."""
    backend = app.backend
    assert isinstance(backend, SqliteBackend)
    return backend


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the store's time on."""
    ahead = 0.0
    now = time.time

    def move(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    monkeypatch.setattr("shared.results.sqlite.time.time", lambda: now() + ahead)
    return move


def at_once(*works: Callable[[int], None]) -> None:
    """Do each work in turn in as many processes as there are, from the same moment on; each must succeed."""
    together = processes.Barrier(PROCESSES)

    def run(number: int) -> None:
        for work in works:
            together.wait(10)
            work(number)

    running = [processes.Process(target=run, args=(number,)) for number in range(PROCESSES)]
    for process in running:
        process.start()
    for process in running:
        process.join(30)
    assert [process.exitcode for process in running] == [0] * PROCESSES


def told(store: SqliteBackend, task_id: str) -> Any:
    """State and result, as a reader sees them."""
    meta = store.get_task_meta(task_id, cache=False)
    return meta["status"], meta["result"]


# --- Keeping and forgetting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a", b"a"])
@pytest.mark.parametrize(("value", "kept"), [("é", "é".encode()), (b"\x00\xff", b"\x00\xff"), ("", b"")])
def test_what_is_set_is_got(store: SqliteBackend, key: str | bytes, value: str | bytes, kept: bytes) -> None:
    # When a value is set, under a key as text or as bytes
    store.set(key, value)
    # Then both forms of the key find it
    assert store.get("a") == store.get(b"a") == kept


def test_a_key_that_nobody_set_has_no_value(store: SqliteBackend) -> None:
    assert store.get("nothing") is None


def test_the_last_value_stays(store: SqliteBackend) -> None:
    store.set("a", "1")
    store.set("a", "2")
    assert store.get("a") == b"2"


def test_several_values_come_in_the_order_of_their_keys(store: SqliteBackend) -> None:
    store.set("a", "1")
    store.set("b", "2")
    assert store.mget([b"b", "nothing", "a"]) == [b"2", None, b"1"]


def test_what_is_deleted_is_gone_and_its_count_begins_anew(store: SqliteBackend) -> None:
    # Given a value and a count under one key
    store.set("a", "1")
    store.incr("a")
    # When it is deleted
    store.delete("a")
    # Then neither is there
    assert store.get("a") is None
    assert store.incr("a") == 1


def test_a_value_expires_after_the_apps_time(app: App, store: SqliteBackend, clock: Callable[[float], None]) -> None:
    # Given a value
    store.set("a", "1")
    # When a day is nearly over, then it is there
    clock(app.conf.result_expires - 10)
    assert store.mget(["a"]) == [b"1"]
    # When it is over, then it is not
    clock(20)
    assert store.get("a") is None and store.mget(["a"]) == [None]


def test_a_values_time_can_be_changed(store: SqliteBackend, clock: Callable[[float], None]) -> None:
    # Given one value that shall go sooner, and one that shall stay
    store.set("sooner", "1")
    store.set("never", "1")
    # When their times are set
    store.expire("sooner", 5)
    store.expire("never", 0)
    # Then they are kept to
    clock(6)
    assert store.get("sooner") is None
    clock(10 * 365 * 86400)
    assert store.get("never") == b"1"


def test_a_value_set_again_lives_anew(store: SqliteBackend, clock: Callable[[float], None]) -> None:
    store.set("a", "1")
    store.expire("a", 5)
    store.set("a", "2")
    clock(6)
    assert store.get("a") == b"2"


def test_cleaning_up_drops_only_what_has_expired(store: SqliteBackend, clock: Callable[[float], None]) -> None:
    # Given an expired and a fresh value
    store.set("old", "1")
    store.expire("old", 1)
    store.set("fresh", "1")
    clock(2)
    # When somebody cleans up
    store.cleanup()
    # Then only the fresh one takes room
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("SELECT key FROM kept").fetchall() == [("fresh",)]


# --- Counting ---------------------------------------------------------------------------------------------------------


def test_counting_begins_at_one(store: SqliteBackend) -> None:
    assert [store.incr("a"), store.incr(b"a"), store.incr("b")] == [1, 2, 1]


def test_processes_that_count_at_once_count_exactly(store: SqliteBackend) -> None:
    # Given eight processes that count under one key, each through a connection of its own
    times = 25

    def count(number: int) -> None:
        seen = [store.incr("shared") for _ in range(times)]
        assert seen == sorted(set(seen))
        store.set(f"seen-{number}", json.dumps(seen))

    # When all do so at the same time
    at_once(count)
    # Then nothing was lost, and no two of them saw the same number
    values = store.mget([f"seen-{each}" for each in range(PROCESSES)])
    seen = [number for value in values for number in json.loads(value or b"")]
    assert sorted(seen) == list(range(1, PROCESSES * times + 1))


def test_processes_may_make_the_store_at_once(app: App, tmp_path: Path) -> None:
    # Given that a worker and a client start together, on a machine where nothing is yet; many times, as it is a race
    urls = [f"sqlite:///{tmp_path}/new-{attempt}/results.sqlite" for attempt in range(100)]
    # When each opens the store and uses it, then none is refused
    at_once(*(lambda number, url=url: SqliteBackend(url, app=app).set(f"key-{number}", "1") for url in urls))
    for url in urls:
        assert SqliteBackend(url, app=app).mget([f"key-{number}" for number in range(PROCESSES)]) == [b"1"] * PROCESSES


# --- Progress ---------------------------------------------------------------------------------------------------------


def test_progress_is_a_state_with_stage_and_numbers(app: App, store: SqliteBackend) -> None:
    # When a task tells how far it is
    progress.tell(store, "t", "fetch", 2, 5)
    # Then whoever asks for the task's state hears it
    result = AsyncResult("t", app=app)
    assert result.state == "PROGRESS"
    assert result.result == {"stage": "fetch", "done": 2, "total": 5}


@pytest.mark.parametrize("state", sorted(states.READY_STATES))
def test_progress_never_overwrites_a_final_state(store: SqliteBackend, state: str) -> None:
    # Given a task that is over, well or not
    answer: Any = ValueError("no") if state in states.EXCEPTION_STATES else "the answer"
    store.store_result("t", answer, state)
    before = told(store, "t")
    # When a late part tells of its progress
    progress.tell(store, "t", "fetch", 2, 5)
    progress.part_done(store, "t", "fetch", "3", 5)
    # Then the answer is still there
    assert repr(told(store, "t")) == repr(before)


@pytest.mark.parametrize("state", [states.STARTED, states.RETRY, states.PENDING])
def test_progress_follows_a_state_on_the_way(store: SqliteBackend, state: str) -> None:
    store.store_result("t", None, state)
    progress.tell(store, "t", "fetch", 2, 5)
    assert told(store, "t")[0] == "PROGRESS"


def test_a_final_state_follows_progress(store: SqliteBackend) -> None:
    progress.tell(store, "t", "fetch", 2, 5)
    store.store_result("t", {"rows": 5}, states.SUCCESS)
    assert told(store, "t") == (states.SUCCESS, {"rows": 5})


def test_a_part_that_is_told_twice_counts_once(store: SqliteBackend) -> None:
    # Given that the message of part 1 came twice
    for part in ("1", "2", "1"):
        progress.part_done(store, "t", "fetch", part, 5)
    # Then two parts are done
    assert told(store, "t") == ("PROGRESS", {"stage": "fetch", "done": 2, "total": 5})


def test_parts_of_another_stage_or_task_count_for_themselves(store: SqliteBackend) -> None:
    progress.part_done(store, "t", "fetch", "1", 5)
    progress.part_done(store, "other", "fetch", "1", 5)
    progress.part_done(store, "t", "write", "1", 9)
    assert told(store, "t") == ("PROGRESS", {"stage": "write", "done": 1, "total": 9})
    assert told(store, "other") == ("PROGRESS", {"stage": "fetch", "done": 1, "total": 5})


def test_parts_told_by_processes_at_once_all_count(store: SqliteBackend) -> None:
    # Given eight workers, each with five parts, of which it shares one with all
    def tell(number: int) -> None:
        for part in ("shared", *(f"{number}-{own}" for own in range(4))):
            progress.part_done(store, "t", "fetch", part, 33)

    # When they tell at the same time
    at_once(tell)
    # Then each distinct part counted
    assert told(store, "t") == ("PROGRESS", {"stage": "fetch", "done": 33, "total": 33})


# --- As a Celery backend ----------------------------------------------------------------------------------------------


def test_a_pickled_store_opens_the_same_file(store: SqliteBackend) -> None:
    # Given a store with a value
    store.set("a", "1")
    # When it is taken to another process, as Celery does with a result
    copy = pickle.loads(pickle.dumps(store))
    # Then it is the same store
    assert isinstance(copy, SqliteBackend) and copy.url == store.url
    assert copy.get("a") == b"1"


def test_the_store_makes_its_folder(app: App, tmp_path: Path) -> None:
    SqliteBackend(f"sqlite:///{tmp_path}/a/b/results.sqlite", app=app).set("a", "1")
    assert (tmp_path / "a" / "b" / "results.sqlite").is_file()


def test_a_chord_is_joined_by_counting_not_by_polling(store: SqliteBackend) -> None:
    # Else Celery would join it by a task that our topic routing gives no queue to.
    assert store.implements_incr and store.supports_autoexpire


def test_a_canvas_keeps_those_of_its_tasks_that_came_last(
    store: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "MOST", 3)
    for number in range(5):
        request = Context(id=f"task-{number}", root_id="root", group="group")
        store.store_result(f"task-{number}", number, "SUCCESS", request=request)
    assert store.family("root") == ["task-2", "task-3", "task-4"]
    assert store.first_of("group") == "root"
    # The first one is found by its own id
    store.store_result("root", 1, "SUCCESS", request=Context(id="root", root_id="root"))
    assert "root" not in store.family("root")


class Sized:
    """A chord of three parts whose publisher knows of two results, for one of them is a group."""

    def __init__(self, app: App, store: SqliteBackend) -> None:
        self.store = store
        self._body = app.signature("calculator.total", args=())
        store.apply_chord(("chord", [AsyncResult(f"part-{number}", app=app) for number in range(2)]), None)

    def part(self, number: int) -> None:
        """A part is done."""
        request = Context(id=f"part-{number}", group="chord", chord=self._body)
        self.store.mark_as_done(f"part-{number}", number, request)

    def all_published(self) -> None:
        """What Celery says just before it publishes the last."""
        self.store.set_chord_size("chord", 3)


def test_a_chord_whose_parts_are_not_all_published_is_not_joined(app: App, store: SqliteBackend) -> None:
    sized = Sized(app, store)
    with patch.object(app, "send_task") as sent:
        # When as many parts are done as there are results
        sized.part(0)
        sized.part(1)
        assert not sent.called
        # And then the last is published, and done
        sized.all_published()
        sized.part(2)
        assert sent.called


def test_a_part_that_is_counted_last_joins_though_it_began_before_the_last_was_published(
    app: App, store: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a part that is about to be counted when the last is published, and is faster
    sized, count = Sized(app, store), store.incr

    def be_late(key: str) -> int:
        monkeypatch.setattr(store, "incr", count)
        sized.all_published()
        sized.part(2)
        return count(key)

    with patch.object(app, "send_task") as sent:
        sized.part(0)
        monkeypatch.setattr(store, "incr", be_late)
        # When it is counted, then it joins
        sized.part(1)
        assert sent.called
