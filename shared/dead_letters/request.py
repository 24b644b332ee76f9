"""A task as the worker's main process sees it: where it ends, its message is told why."""

from datetime import UTC, datetime
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import (
    MaxRetriesExceededError,
    Reject,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    WorkerLostError,
)
from celery.utils.serialization import UnpickleableExceptionWrapper, get_pickled_exception
from celery.worker.request import Request as CeleryRequest

from shared.dead_letters.cause import Cause, Reason
from shared.errors import InvalidArguments
from shared.topology import DELIVERY_LIMIT

_BY_EXCEPTION: tuple[tuple[type[BaseException], Reason], ...] = (
    (InvalidArguments, Reason.INVALID_ARGUMENTS),
    (SoftTimeLimitExceeded, Reason.SOFT_TIMEOUT),
    (TimeLimitExceeded, Reason.TIMEOUT),
    (WorkerLostError, Reason.DELIVERY_LIMIT),
    (SystemExit, Reason.DELIVERY_LIMIT),
    (MaxRetriesExceededError, Reason.RETRIES_EXHAUSTED),
    (Reject, Reason.REJECTED),
)
#: Celery acknowledges a message that it does not run; it would be gone without a trace.
_NOT_RUN = (Reason.REVOKED, Reason.EXPIRED)


class Request(CeleryRequest):
    """Celery's request; each of its ends but success and retry is a dead letter with a cause.

    The cause is left on the message. `shared.consumer.Consumer` reads it where every rejection passes.
    """

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """As Celery's. A task that ended its process at its last delivery has failed, and whoever waits is told."""
        error = exc_info.exception
        error = error.exc if isinstance(error, ExceptionWithTraceback) else error
        self._because(_cause(error, exc_info.traceback, self))
        done = super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        if isinstance(error, WorkerLostError) and self._at_its_limit():
            self.task.backend.mark_as_failure(self.id, error, request=self._context, store_result=self.store_errors)
        return done

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """As Celery's."""
        if not soft:
            self._because(Cause.of(Reason.TIMEOUT, TimeLimitExceeded(timeout)))
        super().on_timeout(soft, timeout)

    def reject(self, requeue: bool = False) -> None:
        """As Celery's, but what has failed for good is not given back.

        Celery gives a task back that went past its hard limit, though it has told everybody that it failed; and a task
        that ends its process once more than the broker allows loses its reason there.
        """
        timed_out = self.cause is not None and self.cause.reason == Reason.TIMEOUT
        super().reject(requeue=requeue and not timed_out and not self._at_its_limit())

    def acknowledge(self) -> None:
        """As Celery's, unless the task was not run."""
        if self.cause is not None and self.cause.reason in _NOT_RUN:
            self.reject()
        else:
            super().acknowledge()

    def maybe_expire(self) -> bool:
        """As Celery's, which also notes the id as revoked: a replay of the task would not be run any more."""
        return self.expires is not None and datetime.now(UTC) > self.expires

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        self._because(Cause(Reason.EXPIRED if expired else Reason.REVOKED, reason))
        super()._announce_revoked(reason, terminated, signum, expired)

    @property
    def cause(self) -> Cause | None:
        """Why the message is given up; None while it is not."""
        return getattr(self._message, "cause", None)

    def _because(self, cause: Cause) -> None:
        # The first is the one that counts: what follows it (a killed process) is its consequence.
        if self.cause is None:
            self._message.cause = cause

    def _at_its_limit(self) -> bool:
        cause = self.cause
        return (
            cause is not None
            and cause.reason == Reason.DELIVERY_LIMIT
            and self._message.headers.get("x-delivery-count", 0) >= DELIVERY_LIMIT
        )


def _cause(error: BaseException, traceback: str, request: Request) -> Cause:
    reason = next((reason for kind, reason in _BY_EXCEPTION if isinstance(error, kind)), Reason.FAILURE)
    task, retries = request.task, request.request_dict.get("retries") or 0
    retried = getattr(task, "autoretry_for", ())
    if reason == Reason.FAILURE and isinstance(error, tuple(retried)) and retries >= (task.max_retries or 0):
        reason = Reason.RETRIES_EXHAUSTED
    error = get_pickled_exception(error)
    if isinstance(error, UnpickleableExceptionWrapper):
        return Cause(reason, f"{error.exc_module}.{error.exc_cls_name}: {error}", str(traceback))
    return Cause.of(reason, error, str(traceback))
