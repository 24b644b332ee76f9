"""How far a task is, told under the caller's task id while others do parts of it."""

from typing import Any, Protocol

from celery import states

#: The state of a task that tells how far it is; its result is then `{"stage": str, "done": int, "total": int}`.
PROGRESS = "PROGRESS"


class ProgressStore(Protocol):
    """A result store that takes progress only while the task has no final state, in one atomic step."""

    def store_progress(self, task_id: str, stage: str, total: int, *, done: int = 0, part: str | None = None) -> None:
        """Tell that `done` of `total` are done; with `part`, that one more distinct part of the stage is."""


def tell(backend: ProgressStore, task_id: str, stage: str, done: int, total: int) -> None:
    """`done` of `total` of this `stage` are done."""
    backend.store_progress(task_id, stage, total, done=done)


def part_done(backend: ProgressStore, task_id: str, stage: str, part: str, total: int) -> None:
    """One part is done. A part that is told twice, because its message came twice, counts once."""
    backend.store_progress(task_id, stage, total, part=part)


def meta(task_id: str, stage: str, done: int | str, total: int) -> dict[str, Any]:
    """What a result store keeps for a task on its way, in Celery's own form."""
    return {
        "status": PROGRESS,
        "result": {"stage": stage, "done": done, "total": total},
        "traceback": None,
        "children": [],
        "date_done": None,
        "task_id": task_id,
    }


#: States after which progress means nothing any more.
FINAL_STATES = tuple(sorted(states.READY_STATES))
