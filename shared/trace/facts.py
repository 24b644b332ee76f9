"""What a result store keeps of a run beside Celery's own fields, and which ids it finds together.

It costs no message and no way to the store of its own: the fields are a part of the result, and the index is written
with it. Of a task whose result is ignored nothing is stored; its log, and its dead letter, tell of it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from shared.waits import waited

#: Members of one family that are found again; of more, those that were stored last.
MOST = 1000


class Family(NamedTuple):
    """With whom a task is found.

    Attributes:
        task: its id.
        of: id of its canvas' first task; where it is that itself, of its group.
        pointed: id of its group, by which the canvas' first task is to be found; None where `of` is the group.
    """

    task: str
    of: str
    pointed: str | None = None


_storing: ContextVar[Family | None] = ContextVar("family", default=None)


def begin(request: Any) -> None:
    """The run of `request` begins; the task's own wrapper says so."""
    request.began = time.time()


def fields(request: Any, service: str | None) -> dict[str, Any]:
    """What is stored with the result of `request`, a task's context.

    `root_id`; `queue`, where Celery's own field is the routing key, which after a delay is the delay's; `waited` and
    `ran`, in seconds, where the run was begun.
    """
    told: dict[str, Any] = {}
    if root := getattr(request, "root_id", None):
        told["root_id"] = root
    if service is not None:
        told["queue"] = service
    began = getattr(request, "began", None)
    if began is not None:
        told["ran"] = round(time.time() - began, 6)
        if not (request.delivery_info or {}).get("redelivered"):
            wait = waited(request.headers or {}, request.properties or {}, began)
            if wait is not None:
                told["waited"] = round(wait, 6)
    return told


def related(task_id: str, request: Any) -> Family | None:
    """Where to note the result of `request`, a task's context; None where it stands alone."""
    root, group = getattr(request, "root_id", None), getattr(request, "group", None)
    if root and root != task_id:
        return Family(task_id, root, group)
    # The parts of a group that is called by itself have no first task in common.
    return Family(task_id, group) if group else None


@contextmanager
def storing(task_id: str, request: Any) -> Iterator[None]:
    """While the block stores the result of `request`, `family` says where to note it."""
    token = _storing.set(related(task_id, request))
    try:
        yield
    finally:
        _storing.reset(token)


def family() -> Family | None:
    """Where to note what is being stored; None where it stands alone."""
    return _storing.get()
