"""What is said of a task, whatever the result store holds of it."""

from typing import Any

import pytest

from shared.results import progress
from tests.e2e.stand_in import StandIn
from tests.serving import Site, finished, problem, submit


@pytest.fixture
def store(site: Site) -> Any:
    """The result store, as a worker has it."""
    return site.app.state.house.results._backend


# --- A whole life -----------------------------------------------------------------------------------------------------


def test_a_report_that_is_done_says_what_is_in_it_and_where_it_is(house: Site) -> None:
    # When a report is asked for, and done
    state = finished(house, submit(house, period="week"))
    # Then its state tells of it
    assert state["state"] == "SUCCESS" and "error" not in state
    report = state["report"]
    assert report["repositories"] == sum(report["languages"].values()) == 500
    assert report["question"]["period"] == "week"
    # And where it lies is nobody's business
    assert report["url"] == f"/reports/{report['name']}"
    assert "file://" not in str(state) and "week/" not in str(state)
    # And it can be fetched
    content = house.get(report["url"]).content
    assert len(content) == report["bytes"]


def test_a_report_that_fails_says_why(house: Site, github: StandIn) -> None:
    # Given a GitHub that refuses the search
    github.fault("invalid_422")
    # When a report is asked for
    state = finished(house, submit(house, period="month", refresh=True))
    # Then its state tells of the error, without a traceback
    assert state["state"] == "FAILURE" and "report" not in state
    assert state["error"]["type"] and state["error"]["message"]
    assert "Traceback" not in str(state) and ".py" not in str(state)


def test_each_language_has_its_file_where_that_was_asked_for(house: Site) -> None:
    report = finished(house, submit(house, period="day", per_language=True))["report"]
    assert {file["group"] for file in report["files"]} == set(report["languages"])
    for file in report["files"][:3]:
        assert len(house.get(file["url"]).content) == file["bytes"]


# --- Every state ------------------------------------------------------------------------------------------------------


def test_progress_is_told(site: Site, store: Any) -> None:
    progress.tell(store, "t1", "fetch", 2, 5)
    state = site.get("/tasks/t1").json()
    assert state["state"] == "PROGRESS" and not state["final"]
    assert state["progress"] == {"stage": "fetch", "done": 2, "total": 5}


@pytest.mark.parametrize(
    ("state", "final"), [("STARTED", False), ("RETRY", False), ("SUCCESS", True), ("FAILURE", True), ("REVOKED", True)]
)
def test_a_state_says_whether_it_is_the_last(site: Site, store: Any, state: str, final: bool) -> None:
    store.store_result("t1", ValueError("no") if state in ("RETRY", "FAILURE", "REVOKED") else None, state)
    shown = site.get("/tasks/t1").json()
    assert (shown["state"], shown["final"]) == (state, final)
    assert ("error" in shown) == (state in ("RETRY", "FAILURE", "REVOKED"))


def test_an_exception_is_told_by_its_first_argument(site: Site, store: Any) -> None:
    # Given one that carries more than its text, as ours that name the time of the next attempt do
    store.store_result("t1", TimeoutError("GitHub is slow", 30.0), "FAILURE")
    assert site.get("/tasks/t1").json()["error"] == {"type": "TimeoutError", "message": "GitHub is slow"}


@pytest.mark.parametrize("result", [7, "text", [1, 2], {"a": {"b": 1}}])
def test_a_result_that_is_no_report_is_told_as_it_is(site: Site, store: Any, result: Any) -> None:
    store.store_result("t1", result, "SUCCESS")
    assert site.get("/tasks/t1").json()["result"] == result


# --- Unknown ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/tasks/{}", "/tasks/{}/events"])
def test_a_task_that_nobody_submitted_is_unknown(site: Site, path: str) -> None:
    task_id = "f2c1d7a0-5a0e-4a60-8d59-4d1f0f3f6a11"
    document = problem(site.get(path.format(task_id)), 404, "unknown-task")
    assert task_id in document["detail"]


@pytest.mark.parametrize("task_id", ["a:fetch", "a b", "é", "x" * 129, "a%2Fb", "*", "a%0Ab"])
def test_an_id_that_no_task_can_have_is_refused_before_the_store_is_asked(site: Site, task_id: str) -> None:
    for path in (f"/tasks/{task_id}", f"/tasks/{task_id}/events"):
        answer = site.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_store_without_an_answer_is_told_as_such(site: Site, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a store that cannot be read
    def broken(key: Any) -> bytes:
        raise OSError("no")

    monkeypatch.setattr(store, "get", broken)
    # When a task is asked for, then that is no 404
    for path in ("/tasks/t1", "/tasks/t1/events"):
        answer = site.get(path)
        problem(answer, 503, "results-away")
        assert int(answer.headers["retry-after"]) > 0
