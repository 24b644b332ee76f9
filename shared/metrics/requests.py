"""A task as the worker's main process sees it, counted: there all ends meet, that of a killed process too."""

import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import (
    Ignore,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    Terminated,
    TimeLimitExceeded,
    WorkerLostError,
)
from celery.worker import state

from shared.dead_letters.request import Request as RequestWithCause
from shared.metrics import declared
from shared.waits import waited

_OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (Ignore, "replaced"),
    (Reject, "rejected"),
    (SoftTimeLimitExceeded, "timed_out"),
    (TimeLimitExceeded, "timed_out"),
    (WorkerLostError, "lost"),
    (SystemExit, "lost"),
    (KeyboardInterrupt, "lost"),
    # It was told to: who told it says why.
    (Terminated, ""),
    (Retry, ""),
)


#: Names of tasks that this process has begun.
_begun: set[str] = set()


class Request(RequestWithCause):
    """The request of before, counting."""

    _counted = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Celery makes a quicker class for each task, whose `on_success` calls no other one.
        if "on_success" in vars(cls):
            cls.on_success = _timed(cls.on_success)

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """As the other."""
        super().on_accepted(pid, time_accepted)
        _begun.add(self.name)
        waited = _waited(self)
        if waited is not None:
            declared.WAIT.observe(waited, self.name)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """As the other."""
        error = raised(exc_info)
        outcome = next((outcome for kind, outcome in _OUTCOMES if isinstance(error, kind)), "failed")
        if outcome:
            self._count(outcome)
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def on_retry(self, exc_info: Any) -> Any:
        """As the other."""
        if not self._counted:
            error = raised(exc_info).exc
            name = "Retry" if error is None else getattr(error, "exc_cls_name", None) or type(error).__name__
            declared.RETRIES.inc(self.name, name)
        self._count("retried")
        return super().on_retry(exc_info)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """As the other."""
        if not soft and not state.should_terminate:
            self._count("timed_out")
            declared.RUN.observe(timeout, self.name)
        super().on_timeout(soft, timeout)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        self._count("expired" if expired else "revoked")
        super()._announce_revoked(reason, terminated, signum, expired)

    def _announce_cancelled(self, emit_retry: bool = True) -> None:
        self._count("cancelled")
        super()._announce_cancelled(emit_retry)

    def _count(self, outcome: str) -> None:
        # A hard time limit is told first as such, and then as the loss of its process.
        if not self._counted:
            self._counted = True
            declared.TASKS.inc(self.name, outcome)


def _timed(on_success: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(on_success)
    def timed(self: Request, failed__retval__runtime: tuple[Any, Any, float], **kwargs: Any) -> Any:
        failed, _, runtime = failed__retval__runtime
        if runtime is None and self.time_start is not None:
            # Celery times only what succeeds.
            runtime = max(0.0, time.time() - self.time_start)
        if runtime is not None:
            declared.RUN.observe(runtime, self.name)
        if not failed:
            self._count("succeeded")
        return on_success(self, failed__retval__runtime, **kwargs)

    return timed


def raised(exc_info: Any) -> Any:
    """The exception that a pool tells of."""
    # Wrapped, unless it comes from another process.
    error = exc_info.exception
    return error.exc if isinstance(error, ExceptionWithTraceback) else error


def _waited(request: Request) -> float | None:
    if request.delivery_info.get("redelivered"):
        return None
    return waited(request.request_dict, request._message.properties, request.time_start)


def succeeded(name: str, seconds: float) -> None:
    """Count a task that was run without a request of its own."""
    _begun.add(name)
    declared.RUN.observe(seconds, name)
    declared.TASKS.inc(name, "succeeded")


def received(message: Any, tasks: Any) -> None:
    """A message has come."""
    if message.delivery_info.get("redelivered"):
        name = message.headers.get("task") if isinstance(message.headers, dict) else None
        declared.REDELIVERIES.inc(name if isinstance(name, str) and name in tasks else "other")


def look(pool: Any) -> None:
    """What is so now. To be called in the worker's own loop, which alone may look through Celery's sets."""
    try:
        running = Counter(request.name for request in tuple(state.active_requests))
    except RuntimeError:
        # A thread of the pool has changed the set; the next look will do.
        return
    # Also those that no look has met: none of them runs now.
    declared.RUNNING.replace({**dict.fromkeys(tuple(_begun), 0), **running})
    declared.PROCESSES.set(getattr(pool, "num_processes", 0) or 0)
