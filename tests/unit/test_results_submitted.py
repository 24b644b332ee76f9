"""What tells a task that was handed in from one that never was. Redis's side is played in tests/e2e/test_gateway.py."""

from collections.abc import Callable
from typing import Any

import pytest
from celery import states

from shared.app import App
from shared.results import progress, submitted


@pytest.fixture
def store(make_app: Callable[..., App]) -> Any:
    return make_app().backend


def state(store: Any, task_id: str) -> str | None:
    known = submitted.read(store, task_id)
    return None if known is None else known["status"]


def test_a_task_that_nobody_handed_in_is_unknown(store: Any) -> None:
    assert submitted.read(store, "t1") is None


def test_one_that_was_is_known(store: Any) -> None:
    store.store_submitted("t1")
    assert submitted.read(store, "t1") == submitted.meta("t1")
    # And Celery's own reader finds it, too
    assert store.get_task_meta("t1")["status"] == "SUBMITTED"


@pytest.mark.parametrize("said", [states.STARTED, states.RETRY, states.SUCCESS, states.FAILURE])
def test_what_a_worker_says_takes_its_place(store: Any, said: str) -> None:
    store.store_submitted("t1")
    store.store_result("t1", None, said)
    assert state(store, "t1") == said
    # And a late note does not take its place back, nor does a late withdrawal
    store.store_submitted("t1")
    store.withdraw_submitted("t1")
    assert state(store, "t1") == said


def test_so_does_progress(store: Any) -> None:
    store.store_submitted("t1")
    progress.tell(store, "t1", "fetch", 1, 5)
    store.store_submitted("t1")
    store.withdraw_submitted("t1")
    assert state(store, "t1") == progress.PROGRESS


def test_one_that_was_withdrawn_is_unknown(store: Any) -> None:
    store.store_submitted("t1")
    store.withdraw_submitted("t1")
    assert submitted.read(store, "t1") is None
    store.withdraw_submitted("never")


def test_what_is_stored_of_an_exception_is_read_as_it_stands(store: Any) -> None:
    # Given a failure, of which Celery's own reader makes an exception of a class found by its name
    store.store_result("t1", ZeroDivisionError("division by zero"), states.FAILURE)
    known = submitted.read(store, "t1")
    assert known is not None and known["result"]["exc_type"] == "ZeroDivisionError"
    assert list(known["result"]["exc_message"]) == ["division by zero"]
