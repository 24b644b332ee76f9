"""What a worker that stops hears of its pool, where a process says it in pieces, or says nothing."""

from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from types import SimpleNamespace
from typing import Any

import pytest

from shared import stopping


class Given:
    """A task that was written to a process, and the pipe by which that speaks."""

    def __init__(self) -> None:
        self.reader, self.process_end = Pipe(duplex=False)
        self.lives = True
        process = SimpleNamespace(outq=SimpleNamespace(_reader=self.reader), pid=4711, _is_alive=lambda: self.lives)
        self.task = SimpleNamespace(_write_to=process, _writer=lambda: None, _accepted=False)
        inner = SimpleNamespace(_cache={1: self.task}, _active_writers=set())
        self.pool = SimpleNamespace(_pool=inner)
        self.hub: Any = SimpleNamespace(readers={}, remove_reader=lambda fd: self.hub.readers.pop(fd))

    def listen(self, callback: Any) -> None:
        """What the loop calls where the process has said something."""
        self.hub.readers[self.reader.fileno()] = (callback, ())

    def hear(self) -> None:
        """As a worker that stops."""
        stopping.hear_what_began(self.pool, self.hub)


@pytest.fixture
def given() -> Iterator[Given]:
    given = Given()
    yield given
    given.reader.close()
    given.process_end.close()


def begun(given: Given, pieces: int) -> Iterator[None]:
    """The rest of a message of which the loop has read the beginning."""
    for _ in range(pieces):
        yield
    given.task._accepted = True


@pytest.mark.parametrize("pieces", [0, 2])
def test_a_message_that_was_half_read_is_read_to_its_end(given: Given, pieces: int) -> None:
    given.process_end.send("more than one piece")
    given.listen(begun(given, pieces))

    given.hear()

    assert given.task._accepted


def broken() -> Iterator[None]:
    raise EOFError
    yield


def nobody(given: Given) -> None:
    """The loop listens no more."""


def half_a_message(given: Given) -> None:
    given.listen(broken())


@pytest.mark.parametrize("listening", [nobody, half_a_message])
def test_nobody_waits_for_what_cannot_be_heard(
    given: Given, listening: Callable[[Given], None], caplog: pytest.LogCaptureFixture
) -> None:
    given.process_end.send("something")
    listening(given)

    given.hear()

    assert (given.hub.readers, given.task._accepted, caplog.text) == ({}, False, "")


def test_nobody_waits_for_a_process_that_is_gone(given: Given, caplog: pytest.LogCaptureFixture) -> None:
    given.lives = False

    given.hear()

    assert (given.task._accepted, caplog.text) == (False, "")


def test_a_process_that_says_nothing_is_named(
    given: Given, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stopping, "TO_BEGIN", 0.2)

    given.hear()

    assert "Process 4711 did not begin within 0.2 s what it was given" in caplog.text


def test_a_stop_that_ends_tasks_waits_for_none(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    from celery.worker import state

    monkeypatch.setattr(state, "should_terminate", 0)
    given.process_end.send("something")
    given.listen(lambda: pytest.fail("it was read"))

    given.hear()


def test_a_pool_without_pipes_and_a_worker_without_a_loop_are_left_alone(given: Given) -> None:
    given.process_end.send("something")
    stopping.hear_what_began(given.pool, None)
    given.listen(lambda: pytest.fail("it was read"))
    del given.pool._pool._active_writers

    given.hear()
