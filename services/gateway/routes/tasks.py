"""What is known of a task: now, and as it goes on."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Response
from fastapi.responses import StreamingResponse

from services.gateway import sse, states
from services.gateway.events import TooManyReaders, UnknownTask, Watcher
from services.gateway.house import TheHouse
from services.gateway.problem import Problem, documented
from services.gateway.results import ResultsAway
from services.gateway.submit import RETRY_AFTER

#: Celery's own ids are UUIDs; a program may choose others. Never a `:`, which in the store begins what is not a task.
TASK_ID = re.compile(r"[A-Za-z0-9_.@-]{1,128}")

router = APIRouter(tags=["tasks"])


def _task_id(id: Annotated[str, Path(description="As the submission gave it.")]) -> str:
    if not TASK_ID.fullmatch(id):
        raise Problem(404, "unknown-task", f"id: no task can be called {id!r:.140}")
    return id


TaskId = Annotated[str, Depends(_task_id)]


@router.get("/tasks/{id}", responses=documented(404, 422, 503), response_model_exclude_none=True)
async def task(id: TaskId, house: TheHouse) -> states.TaskState:
    """The task's state, its progress, and its result or error."""
    try:
        return states.show(id, await house.watchers.state(id))
    except (UnknownTask, ResultsAway, TooManyReaders) as error:
        raise _problem(error, id) from error


async def _watcher(
    id: TaskId, house: TheHouse, last_event_id: Annotated[str | None, Header()] = None
) -> AsyncIterator[Watcher | None]:
    """The task's watcher for as long as the answer takes; None for a reader that has seen everything."""
    if last_event_id == sse.LAST:
        yield None
        return
    async with AsyncExitStack() as until_sent:
        try:
            watcher = await until_sent.enter_async_context(house.watchers.following(id))
        except (UnknownTask, ResultsAway, TooManyReaders) as error:
            raise _problem(error, id) from error
        yield watcher


@router.get(
    "/tasks/{id}/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: `state`, `unavailable`, `gone`",
            "content": {"text/event-stream": {}},
        },
        204: {"description": "The last event was received before"},
        **documented(404, 422, 503),
    },
)
async def events(id: TaskId, watcher: Annotated[Watcher | None, Depends(_watcher)]) -> Response:
    """The task's state as it changes, until it is final."""
    if watcher is None:
        return Response(status_code=204)  # this is how an EventSource learns not to come back
    return StreamingResponse(
        sse.stream(watcher, partial(states.show, id)),
        media_type="text/event-stream",
        # A proxy that collects an answer before it passes it on would hold all of them back.
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _problem(error: Exception, id: str) -> Problem:
    if isinstance(error, UnknownTask):
        return Problem(404, "unknown-task", f"id: nothing is known of the task {id}; results are kept for a day")
    if isinstance(error, TooManyReaders):
        return Problem(503, "too-many-readers", "Too many follow tasks just now: ask again, or poll", retry_after=5)
    return Problem(503, "results-away", "The result store does not answer: the task goes on", retry_after=RETRY_AFTER)
