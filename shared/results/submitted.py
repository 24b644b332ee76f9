"""A task that was handed in and that no worker has touched: what tells it from one that never was."""

from typing import Any, Protocol

#: The state of such a task. Whatever a worker stores, progress too, takes its place.
SUBMITTED = "SUBMITTED"


class SubmissionStore(Protocol):
    """A result store that remembers what was handed in."""

    def store_submitted(self, task_id: str) -> None:
        """Remember `task_id`, unless anything is known of it already. One atomic step."""

    def withdraw_submitted(self, task_id: str) -> None:
        """Forget `task_id`, unless anything else has become known of it. One atomic step."""


def meta(task_id: str) -> dict[str, Any]:
    """What a result store keeps for such a task, in Celery's own form."""
    return {
        "status": SUBMITTED,
        "result": None,
        "traceback": None,
        "children": [],
        "date_done": None,
        "task_id": task_id,
    }


def read(backend: Any, task_id: str) -> dict[str, Any] | None:
    """What is stored of a task, as it is stored; None where nothing is.

    Celery's own reader answers PENDING for a task that nobody knows, and makes exceptions again out of stored names.
    """
    stored = backend.get(backend.get_key_for_task(task_id))
    return None if stored is None else backend.decode(stored)
