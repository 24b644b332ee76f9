"""A task as the worker's main process sees it: taken from the queue, not yet run, or its process gone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.exceptions import TimeLimitExceeded, WorkerLostError

from shared import scope
from shared.metrics.requests import Request as CountedRequest
from shared.metrics.requests import raised


class Request(CountedRequest):
    """A request whose ends have a cause and are counted. What the main process does in its place, it does in its scope.

    A task that is killed by its time limit, lost with its process, or revoked runs no code of its own any more: its
    error callbacks, and those of a chord that it belongs to, are published here.
    """

    _told_lost = False

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """As the other, as that task."""
        with self._in_its_place():
            if not soft:
                self._tell_lost(TimeLimitExceeded(timeout))
            super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """As the other, as that task."""
        with self._in_its_place():
            error = raised(exc_info)
            if isinstance(error, WorkerLostError):
                self._tell_lost(error)
            return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        with self._in_its_place():
            super()._announce_revoked(reason, terminated, signum, expired)

    def _tell_lost(self, error: BaseException) -> None:
        spans = self.app.spans
        # A run in this very process has ended its own span.
        if spans is not None and self.worker_pid not in (None, os.getpid()) and not self._told_lost:
            self._told_lost = True
            spans.lost(self, error)

    @contextmanager
    def _in_its_place(self) -> Iterator[None]:
        self.task.request_stack.push(self._context)
        try:
            with scope.exactly(self.request_dict.get(scope.HEADER)):
                yield
        finally:
            self.task.request_stack.pop()
