"""Who joins a chord in one thread is not disturbed by another thread that does too."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from celery import _state, result

from shared import joins


@pytest.fixture
def in_a_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where tasks may not wait for results."""
    for name in ("_set_task_join_will_block", "task_join_will_block"):
        monkeypatch.setattr(result, name, getattr(result, name))
    joins.connect()
    monkeypatch.setattr(_state, "_task_join_will_block", True)
    yield


def test_two_threads_that_join_are_both_allowed(in_a_worker: None) -> None:
    # Given two threads that join at once, of which one ends while the other is at it
    inside, outside = Barrier(2), Barrier(2)

    def short() -> None:
        with result.allow_join_result():
            inside.wait(10)
        outside.wait(10)

    def long() -> bool:
        with result.allow_join_result():
            inside.wait(10)
            outside.wait(10)
            return result.task_join_will_block()

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(short)
        second = threads.submit(long)
        # Then the other may go on, and afterwards neither may wait
        assert second.result(10) is False and first.result(10) is None
        assert list(threads.map(lambda _: result.task_join_will_block(), range(4))) == [True] * 4
    assert result.task_join_will_block()
