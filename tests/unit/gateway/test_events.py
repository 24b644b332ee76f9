"""The events of a task: each state once, to as many readers as want it, for the price of one."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.gateway import events, sse
from shared.results import progress
from tests.serving import PATIENCE, Site, embedded, gateway, problem, submit, until


@pytest.fixture
def store(site: Site) -> Any:
    """The result store, as a worker has it."""
    return site.app.state.house.results._backend


@pytest.fixture
def reads(store: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is read of the store, one entry a time."""
    seen: list[Any] = []
    get = store.get

    def read(key: Any) -> Any:
        seen.append(key)
        return get(key)

    monkeypatch.setattr(store, "get", read)
    return seen


def told(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and data of each event."""
    name = ""
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def watchers(site: Site) -> events.Watchers:
    watched: events.Watchers = site.app.state.house.watchers
    return watched


# --- One reader -------------------------------------------------------------------------------------------------------


def test_states_come_as_they_change_and_the_last_ends_the_stream(site: Site, store: Any) -> None:
    # Given a reader of a task that waits
    task_id = submit(site)
    with site.stream("GET", f"/tasks/{task_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        states = told(answer.iter_lines())
        assert next(states)[1]["state"] == "SUBMITTED"
        # When it goes on, step by step
        for done in (1, 2):
            progress.tell(store, task_id, "fetch", done, 2)
            # Then each step is told
            assert next(states)[1]["progress"] == {"stage": "fetch", "done": done, "total": 2}
        # And when it is done, that is the last word
        store.store_result(task_id, 42, "SUCCESS")
        name, state = next(states)
        assert (name, state["state"], state["result"], state["final"]) == ("state", "SUCCESS", 42, True)
        assert next(states, None) is None


def test_a_task_that_is_done_already_has_one_event(site: Site, store: Any) -> None:
    store.store_result("t1", 42, "SUCCESS")
    with site.stream("GET", "/tasks/t1/events") as answer:
        assert [state["state"] for _, state in told(answer.iter_lines())] == ["SUCCESS"]


def test_an_event_has_what_the_task_itself_has(site: Site, store: Any) -> None:
    progress.tell(store, "t1", "fetch", 1, 2)
    with site.stream("GET", "/tasks/t1/events") as answer:
        _, event = next(told(answer.iter_lines()))
    assert {name: value for name, value in event.items() if value is not None} == site.get("/tasks/t1").json()


def test_a_reader_that_has_seen_the_last_event_need_not_come_back(site: Site, store: Any) -> None:
    # Given a reader to the end
    store.store_result("t1", 42, "SUCCESS")
    lines = site.get("/tasks/t1/events").text.splitlines()
    (last,) = [line.removeprefix("id: ") for line in lines if line.startswith("id: ")]
    # When it comes back, as a browser's EventSource does when a stream ends
    answer = site.get("/tasks/t1/events", headers={"Last-Event-ID": last})
    # Then it is told to stay away: WHATWG HTML, "204 No Content"
    assert answer.status_code == 204


def test_a_silent_task_shows_that_the_line_is_open(site: Site, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT", 0.1)
    progress.tell(store, "t1", "fetch", 1, 2)
    with site.stream("GET", "/tasks/t1/events") as answer:
        lines = answer.iter_lines()
        # A comment, which readers pass over
        assert until(lambda: next(lines).startswith(":"))


def test_a_task_that_is_forgotten_ends_the_stream(site: Site, store: Any) -> None:
    progress.tell(store, "t1", "fetch", 1, 2)
    with site.stream("GET", "/tasks/t1/events") as answer:
        states = told(answer.iter_lines())
        next(states)
        store.delete(store.get_key_for_task("t1"))
        assert [name for name, _ in states] == ["gone"]


def test_a_store_that_goes_away_is_told_and_waited_for(site: Site, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    progress.tell(store, "t1", "fetch", 1, 2)
    with site.stream("GET", "/tasks/t1/events") as answer:
        states = told(answer.iter_lines())
        next(states)
        # Given that the store does not answer for a while
        with monkeypatch.context() as away:
            away.setattr(store, "get", lambda key: (_ for _ in ()).throw(OSError("no")))
            # Then the reader hears of it
            assert next(states)[0] == "unavailable"
        # And of the task again when it is back
        store.store_result("t1", 42, "SUCCESS")
        assert next(states)[1]["result"] == 42


@pytest.mark.parametrize("path", ["/tasks/t1", "/tasks/t1/events"])
def test_a_state_that_cannot_be_understood_is_an_error_and_reported(
    site: Site, store: Any, log: pytest.LogCaptureFixture, path: str
) -> None:
    # Given something else under the task's key
    store.set(store.get_key_for_task("t1"), "no JSON")
    # When it is asked for, then that is neither unknown nor away
    problem(site.get(path), 500, "internal-error")
    assert f"GET {path} failed" in log.messages


# --- Many readers -----------------------------------------------------------------------------------------------------


def read_to_the_end(site: Site, task_id: str, ready: threading.Barrier) -> list[str]:
    """The states that one reader is told, on a connection of its own."""
    url = f"{site.url}/tasks/{task_id}/events"
    with httpx.Client(timeout=PATIENCE) as client, client.stream("GET", url) as answer:
        states = told(answer.iter_lines())
        first = next(states)[1]["state"]
        ready.wait(PATIENCE)
        return [first, *(state["state"] for _, state in states)]


def test_a_hundred_readers_cost_the_store_as_much_as_one(site: Site, store: Any, reads: list[Any]) -> None:
    progress.tell(store, "t1", "fetch", 1, 2)
    # Given a hundred readers of one task
    ready = threading.Barrier(101)
    reads.clear()
    begin = time.monotonic()
    with ThreadPoolExecutor(100) as readers:
        following = [readers.submit(read_to_the_end, site, "t1", ready) for _ in range(100)]
        ready.wait(PATIENCE)
        # When it is done
        store.store_result("t1", 42, "SUCCESS")
        states = [one.result(PATIENCE) for one in following]
    # Then every one of them has seen it begin and end
    assert states == [["PROGRESS", "SUCCESS"]] * 100
    # And the store was read at the pace of one watcher, however many listened; and once by the writer
    assert len(reads) <= (time.monotonic() - begin) / events.INTERVAL + 3


def test_askers_of_one_moment_share_one_look(site: Site, store: Any, reads: list[Any]) -> None:
    progress.tell(store, "t1", "fetch", 1, 2)
    reads.clear()
    with ThreadPoolExecutor(20) as askers:
        answers = list(askers.map(lambda _: site.get("/tasks/t1").json()["state"], range(60)))
    assert answers == ["PROGRESS"] * 60
    assert len(reads) <= 20


def test_a_watcher_goes_with_its_last_reader(site: Site, store: Any, reads: list[Any]) -> None:
    progress.tell(store, "t1", "fetch", 1, 2)
    # Given two readers
    url = f"{site.url}/tasks/t1/events"
    with httpx.stream("GET", url) as one:
        # Kept, because a stream closes with the iterator over it
        first = told(one.iter_lines())
        next(first)
        with httpx.stream("GET", url) as two:
            second = told(two.iter_lines())
            next(second)
            (watcher,) = watchers(site)._watchers.values()
            assert watcher.readers == 2
        # When one goes, the other stays with it
        until(lambda: watcher.readers == 1)
        assert not watcher.ended
    # When the other goes too, then nobody looks any more
    until(lambda: not watchers(site)._watchers)
    assert watcher.ended


def test_readers_are_bounded(site: Site, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_READERS", 1)
    progress.tell(store, "t1", "fetch", 1, 2)
    with httpx.stream("GET", f"{site.url}/tasks/t1/events") as one:
        states = told(one.iter_lines())
        next(states)
        # When one more comes than there may be
        answer = site.get("/tasks/t1/events")
        # Then it is sent away for now, and may still ask
        problem(answer, 503, "too-many-readers")
        assert site.get("/tasks/t1").status_code == 200
    until(lambda: not watchers(site)._watchers)
    store.store_result("t1", 42, "SUCCESS")
    assert site.get("/tasks/t1/events").status_code == 200


def test_watched_tasks_are_bounded(site: Site, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_TASKS", 1)
    for task_id in ("t1", "t2"):
        progress.tell(store, task_id, "fetch", 1, 2)
    with httpx.stream("GET", f"{site.url}/tasks/t1/events") as one:
        states = told(one.iter_lines())
        next(states)
        problem(site.get("/tasks/t2/events"), 503, "too-many-readers")


def test_a_gateway_that_is_told_to_stop_lets_its_readers_go(tmp_path: Path) -> None:
    # Given a gateway, as a process of its own, and a reader of a task that waits
    with ExitStack() as until_done:
        served = until_done.enter_context(gateway(embedded(tmp_path, "http://github.invalid")))
        site = until_done.enter_context(Site(served.url))
        answer = until_done.enter_context(site.stream("GET", f"/tasks/{submit(site)}/events"))
        states = told(answer.iter_lines())
        next(states)
        # When the gateway is told to stop, then the stream ends in order, and the gateway with it
        begin = time.monotonic()
        served.process.terminate()
        assert list(states) == []
        assert time.monotonic() - begin < 3
