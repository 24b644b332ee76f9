"""The age of a queue's first message, from counts alone."""

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.queue_age import QueueAge

#: Seconds between two looks.
INTERVAL = 10.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), max_size=60))
def test_the_age_is_right_to_one_look(steps: list[tuple[int, int]]) -> None:
    # Given a queue where, between two looks, some messages come in the middle, and some are taken
    queue: deque[float] = deque()
    age, published, now = QueueAge(), 0, 0.0
    age.look(now, ready=0, messages=0, published=0)
    for come, taken in steps:
        queue.extend([now + INTERVAL / 2] * come)
        published += come
        for _ in range(min(taken, len(queue))):
            queue.popleft()
        now += INTERVAL
        # When it is looked at
        told = age.look(now, ready=len(queue), messages=len(queue), published=published)
        # Then its age is that of its first message, and at most one look too low
        oldest = now - queue[0] if queue else 0.0
        assert oldest - INTERVAL <= told <= oldest


def test_what_was_there_before_is_as_old_as_the_first_look() -> None:
    age = QueueAge()
    assert age.look(100, ready=3, messages=3, published=0) == 0
    assert age.look(160, ready=3, messages=3, published=0) == 60
    # And what comes behind it makes it no younger
    assert age.look(220, ready=9, messages=9, published=6) == 120


def test_a_broker_that_counts_anew_makes_no_message_younger() -> None:
    # Given a message that waits
    age = QueueAge()
    age.look(0, ready=0, messages=0, published=40)
    age.look(10, ready=1, messages=1, published=41)
    # When the broker was started anew
    # Then it is as old as before, and what comes now is younger
    assert age.look(70, ready=1, messages=1, published=0) == 60
    assert age.look(80, ready=2, messages=2, published=1) == 70
    assert age.look(90, ready=1, messages=1, published=1) == 10


def test_what_the_broker_moves_there_itself_counts() -> None:
    # Given dead letters, which nobody publishes
    age = QueueAge()
    age.look(0, ready=0, messages=0, published=0)
    assert age.look(10, ready=2, messages=2, published=0) == 0
    assert age.look(40, ready=3, messages=3, published=0) == 30


def test_a_queue_where_messages_are_only_held_has_no_age() -> None:
    age = QueueAge()
    age.look(0, ready=0, messages=0, published=0)
    assert age.look(10, ready=0, messages=5, published=5) == 0
