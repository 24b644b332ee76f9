"""A worker's events leave together under load, at once otherwise, and none stays behind."""

from collections.abc import Callable
from typing import Any

import pytest

from shared import event_pace
from shared.event_pace import APART, OVERDUE, EventPace


class Loop:
    """A hub whose time is told."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.planned: list[tuple[float, Callable[[], Any]]] = []

    def call_soon(self, callback: Callable[[], Any]) -> None:
        self.call_later(0.0, callback)

    def call_later(self, seconds: float, callback: Callable[[], Any]) -> None:
        self.planned.append((self.now + seconds, callback))

    def turn(self, seconds: float = 0.0) -> None:
        """Let time go by, and do what is due."""
        self.now += seconds
        due = [one for one in self.planned if one[0] <= self.now]
        self.planned = [one for one in self.planned if one[0] > self.now]
        for _, callback in due:
            callback()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    made = Loop()
    monkeypatch.setattr(event_pace, "monotonic", lambda: made.now)
    return made


def test_one_now_and_then_leaves_at_once(loop: Loop) -> None:
    sent: list[float] = []
    pace = EventPace(lambda: sent.append(loop.now))
    for _ in range(3):
        pace.wanted(loop)
        loop.turn()
        loop.turn(1.0)
    assert sent == [1000.0, 1001.0, 1002.0]


def test_many_leave_together(loop: Loop) -> None:
    waiting, sent = 0, list[int]()

    def flush() -> None:
        nonlocal waiting
        sent.append(waiting)
        waiting = 0

    pace = EventPace(flush)
    # Given an event each millisecond
    for _ in range(1000):
        waiting += 1
        pace.wanted(loop)
        loop.turn(0.001)
    loop.turn(APART)
    # Then each has left, and no message was sooner than it may be
    assert sum(sent) == 1000 and waiting == 0
    assert len(sent) <= 1.0 / APART + 2


def test_what_a_loop_forgets_is_planned_again(loop: Loop) -> None:
    sent: list[float] = []
    pace = EventPace(lambda: sent.append(loop.now))
    for _ in range(2):
        pace.wanted(loop)
        loop.turn()
    assert len(sent) == 1
    # Given a loop that lost its connection, and its timers
    loop.planned.clear()
    loop.turn(APART + OVERDUE)
    pace.wanted(loop)
    loop.turn()
    assert len(sent) == 2
