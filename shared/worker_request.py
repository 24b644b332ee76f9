"""A task as the worker's main process sees it: taken from the queue, not yet run, or its process gone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.exceptions import TimeLimitExceeded
from celery.worker.request import Request as CeleryRequest

from shared import scope


class Request(CeleryRequest):
    """Celery's request; what the main process does in a task's place, it does as that task, and in its scope.

    A task that is killed by its time limit, lost with its process, or revoked runs no code of its own any more: its
    error callbacks, and those of a chord that it belongs to, are published here.
    """

    _timed_out = False

    def on_timeout(self, soft: bool, timeout: float) -> None:
        self._timed_out = not soft
        with self._in_its_place():
            super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        error = exc_info.exception
        # What comes from another process is wrapped, to carry its traceback.
        self._timed_out = isinstance(getattr(error, "exc", error), TimeLimitExceeded)
        with self._in_its_place():
            return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def reject(self, requeue: bool = False) -> None:
        """As Celery's, but that a task which took too long is a dead letter at once: it would take too long again."""
        super().reject(requeue=requeue and not self._timed_out)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        with self._in_its_place():
            super()._announce_revoked(reason, terminated, signum, expired)

    @contextmanager
    def _in_its_place(self) -> Iterator[None]:
        self.task.request_stack.push(self._context)
        try:
            with scope.exactly(self.request_dict.get(scope.HEADER)):
                yield
        finally:
            self.task.request_stack.pop()
