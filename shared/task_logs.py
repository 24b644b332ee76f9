"""A log file per task: `TASK_LOG_DIR/<task name>.log` has what the task logs, what it prints, and its life.

Each line has the time, the level, the task's id, the id of the first task of its canvas, and the attempt. With
`LOG_FORMAT=json` the console carries the same records, one JSON object a line. With neither, nothing here is connected.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from celery import _state, signals

from shared.config import Settings
from shared.log_file import LogFile, backup
from shared.waits import waited

#: Where a task's life is told: received, started, retried, succeeded, failed, revoked.
life = logging.getLogger("tasks.life")
#: Celery's own sentences about the same events, which the console need not say twice.
_CELERYS_LIFE = frozenset({"celery.app.trace", "celery.worker.strategy", "celery.worker.request"})
#: What keeps a name from being a path.
_NOT_IN_A_NAME = re.compile(r"[^\w.@+-]|^\.")


class Run(NamedTuple):
    """Which run of which task a record belongs to.

    Attributes:
        name: the task's.
        id: of this call.
        root: id of the task that the canvas began with.
        attempt: counted from 1.
    """

    name: str
    id: str
    root: str
    attempt: int


def file_name(task: str) -> str:
    """The log file of the task called so, in TASK_LOG_DIR."""
    return f"{_NOT_IN_A_NAME.sub('_', task)}.log"


def log_files(folder: Path, task: str | None = None) -> Iterator[Path]:
    """The log files of `task`, or of all, the oldest of each first."""
    for path in [folder / file_name(task)] if task else sorted(folder.glob("*.log")):
        numbers = {int(old.suffix[1:]) for old in folder.glob(f"{path.name}.*") if old.suffix[1:].isdigit()}
        yield from (backup(path, number) for number in sorted(numbers, reverse=True))
        if path.exists():
            yield path


def current_run() -> Run | None:
    """The run that this thread is inside of; None outside of tasks."""
    stack = _state._task_stack.stack
    if not stack:
        return None
    for task in reversed(stack):
        # `celery.map` runs tasks inside its own run: they have a name, but no message.
        if task.request.id:
            return Run(stack[-1].name, *_numbers(task.request))
    return None


class TaskLogHandler(logging.Handler):
    """Writes each record of a task's run to that task's file."""

    def __init__(self, folder: Path, size: int, backups: int) -> None:
        super().__init__()
        self.folder, self.size, self.backups = folder, size, backups
        self.files: dict[str, LogFile] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Append the record, a line for each of its lines; what has no run is for the console alone."""
        run = getattr(record, "run", None) or (None if record.name in _CELERYS_LIFE else current_run())
        if run is None or getattr(record, "in_task_log", None) is self:
            return
        # Both the root's handler and that of `celery.task` may come by.
        record.in_task_log = self
        try:
            file = self.files.get(run.name)
            if file is None:
                path = self.folder / file_name(run.name)
                file = self.files.setdefault(run.name, LogFile(path, self.size, self.backups))
            complaint = file.append(lines(record, run))
        except Exception:
            self.handleError(record)
            return
        if complaint:
            print(f"task log: cannot write to {complaint}", file=sys.__stderr__)

    def close(self) -> None:
        """Close the files."""
        for file in self.files.values():
            file.close()
        super().close()


class JsonFormatter(logging.Formatter):
    """One JSON object a record: `time`, `level`, `logger`, `message`, and in a task `task`, `id`, `root`, `attempt`."""

    def format(self, record: logging.LogRecord) -> str:
        run = getattr(record, "run", None) or current_run()
        fields = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **({"task": run.name, "id": run.id, "root": run.root, "attempt": run.attempt} if run else {}),
            **({"traceback": self.formatException(record.exc_info)} if record.exc_info else {}),
        }
        return json.dumps(fields, ensure_ascii=False, default=repr)


def lines(record: logging.LogRecord, run: Run) -> str:
    """A record as whole lines, each with all that a reader needs to know of it."""
    text = record.getMessage()
    if record.exc_info:
        text = f"{text}\n{logging.Formatter().formatException(record.exc_info)}"
    front = f"{_time(record)} {record.levelname:7} {run.id} root={run.root} attempt={run.attempt} "
    return "".join(f"{front}{line}\n" for line in text.splitlines() or [""])


def connect(settings: Settings) -> None:
    """Write task logs in this process and its children as `settings` say; nothing at all where they say nothing."""
    for logger in _LOGGERS:
        _remove(logger)
    for signal in _SIGNALS:
        signal.disconnect(dispatch_uid="task-logs")
    if settings.task_log_dir is None and settings.log_format != "json":
        return
    handler = None
    if settings.task_log_dir is not None:
        handler = TaskLogHandler(settings.task_log_dir.absolute(), settings.task_log_size, settings.task_log_backups)
        life.addHandler(handler)
    # A task's life stands in its file whatever LOG_LEVEL says; the console has it in place of Celery's own sentences.
    life.setLevel(logging.INFO)
    life.propagate = settings.log_format == "json"

    def set_up(logger: logging.Logger, loglevel: int, **_: Any) -> None:
        _remove(logger)
        if settings.log_format == "json":
            for console in logger.handlers:
                console.setFormatter(JsonFormatter())
                console.setLevel(loglevel)
                console.addFilter(lambda record: record.name not in _CELERYS_LIFE or record.levelno >= logging.WARNING)
        if handler is not None:
            logger.addHandler(handler)

    for signal in (signals.after_setup_logger, signals.after_setup_task_logger):
        signal.connect(set_up, dispatch_uid="task-logs", weak=False)
    for signal, tell in _LIFE.items():
        signal.connect(tell, dispatch_uid="task-logs", weak=False)


def _remove(logger: logging.Logger) -> None:
    for handler in [one for one in logger.handlers if isinstance(one, TaskLogHandler)]:
        logger.removeHandler(handler)
        handler.close()


def _numbers(request: Any) -> tuple[str, str, int]:
    return request.id, request.root_id or request.id, (request.retries or 0) + 1


def _tell(level: int, task: str, request: Any, message: str, *args: Any) -> None:
    life.log(level, message, *args, extra={"run": Run(task, *_numbers(request))})


def _received(request: Any, **_: Any) -> None:
    # The worker's request knows the number of retries by its message only.
    retries = request.request_dict.get("retries") or 0
    run = Run(request.task.name, request.id, request.root_id or request.id, retries + 1)
    told = (request.app.spec.name, request.hostname, request.parent_id or "-", request.group or "-")
    life.info("received queue=%s worker=%s parent=%s group=%s", *told, extra={"run": run})


def _started(task: Any, **_: Any) -> None:
    request, wait = task.request, None
    if not (request.delivery_info or {}).get("redelivered"):
        wait = waited(request.headers or {}, request.properties or {}, time.time())
    _tell(logging.INFO, task.name, request, "started" if wait is None else f"started after {wait:.3f} s")


def _retried(sender: Any, request: Any, reason: Any, **_: Any) -> None:
    _tell(logging.WARNING, sender.name, request, "retried: %s", reason)


def _succeeded(sender: Any, runtime: float | None = None, **_: Any) -> None:
    _tell(logging.INFO, sender.name, sender.request, "succeeded in %.3f s", runtime or 0.0)


def _failed(sender: Any, exception: BaseException, einfo: Any = None, **_: Any) -> None:
    trace = str(getattr(einfo, "traceback", "") or "").rstrip()
    _tell(logging.ERROR, sender.name, sender.request, "failed: %s: %s\n%s", type(exception).__name__, exception, trace)


def _revoked(sender: Any, request: Any, terminated: bool, expired: bool, **_: Any) -> None:
    how = "terminated" if terminated else "expired" if expired else "revoked"
    _tell(logging.WARNING, sender.name, request, how)


_LIFE = {
    signals.task_received: _received,
    signals.task_prerun: _started,
    signals.task_retry: _retried,
    signals.task_success: _succeeded,
    signals.task_failure: _failed,
    signals.task_revoked: _revoked,
}
_SIGNALS = (*_LIFE, signals.after_setup_logger, signals.after_setup_task_logger)
_LOGGERS = (life, logging.getLogger(), logging.getLogger("celery.task"))


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
