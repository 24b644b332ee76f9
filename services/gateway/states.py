"""What a task's stored state looks like from outside."""

from typing import Any, get_type_hints

from pydantic import BaseModel, ValidationError

from services.gateway.catalogue import Report
from shared.results.progress import FINAL_STATES, PROGRESS
from shared.signatures import declarations
from shared.signatures.reporter import ReportResult


class Links(BaseModel):
    """Where to go from here."""

    self: str
    events: str


class Progress(BaseModel):
    """How far the task is: `done` of `total` parts of its present `stage`."""

    stage: str
    done: int
    total: int


class Failure(BaseModel):
    """Why the task failed, or is tried again."""

    type: str
    message: str


class TaskState(BaseModel):
    """What is known of a task.

    Attributes:
        state: SUBMITTED until a worker has it; PROGRESS, STARTED, RETRY while it runs; SUCCESS, FAILURE, REVOKED.
        final: nothing will follow.
        report: where the result is a report.
        result: any other result, as JSON.
    """

    id: str
    state: str
    final: bool
    progress: Progress | None = None
    report: Report | None = None
    result: Any = None
    error: Failure | None = None
    links: Links


def links(task_id: str) -> Links:
    """The addresses of a task."""
    return Links(self=f"/tasks/{task_id}", events=f"/tasks/{task_id}/events")


def show(task_id: str, meta: dict[str, Any]) -> TaskState:
    """The stored state `meta` of a task for its reader."""
    state, result = meta["status"], meta.get("result")
    shown = TaskState(id=task_id, state=state, final=state in FINAL_STATES, links=links(task_id))
    if state == PROGRESS and isinstance(result, dict):
        return shown.model_copy(update={"progress": Progress(**result)})
    if isinstance(result, dict) and "exc_type" in result:
        return shown.model_copy(update={"error": _failure(result)})
    if state == "SUCCESS" and (report := _report(meta.get("name"), result)):
        return shown.model_copy(update={"report": report})
    return shown.model_copy(update={"result": result})


def _failure(stored: dict[str, Any]) -> Failure:
    message = stored.get("exc_message")
    if isinstance(message, list | tuple):
        # An exception's arguments: the first is what it says, others are for programs.
        message = message[0] if message else ""
    return Failure(type=stored["exc_type"], message=str(message))


def _report(task: str | None, result: Any) -> Report | None:
    """The result as a report, where the task that gave it is declared to give one."""
    declared = declarations().get(task or "")
    if declared is None or get_type_hints(declared.function).get("return") is not ReportResult:
        return None
    try:
        return Report.of(ReportResult.model_validate(result))
    except ValidationError:
        return None
