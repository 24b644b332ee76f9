"""Whether a task may wait for results, said for each thread by itself.

Celery keeps it in one variable of the process. In a pool of threads two chords that are joined at about the same time
set it back for each other: the join of one is then refused (`Never call result.get() within a task!`), and its chord
fails though every part of it was done.
"""

from contextvars import ContextVar

from celery import _state, result

#: None where this thread has said nothing: then what holds for the process does.
_blocks: ContextVar[bool | None] = ContextVar("join_will_block", default=None)


def connect() -> None:
    """Have `allow_join_result` and `denied_join_result` speak of their own thread. A second call does nothing new."""
    result._set_task_join_will_block = _set
    result.task_join_will_block = _will_block


def _set(blocks: bool) -> None:
    _blocks.set(blocks)


def _will_block() -> bool:
    own = _blocks.get()
    return bool(_state._task_join_will_block) if own is None else own
