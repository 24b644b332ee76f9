"""A task as the worker's main process sees it: taken from the queue, not yet run, or its process gone."""

from typing import Any

from celery.worker.request import Request as CeleryRequest

from shared import scope


class Request(CeleryRequest):
    """Celery's request, with the task's scope around what the main process publishes in the task's place.

    A task that is killed by its time limit, lost with its process, or revoked runs no code of its own any more: its
    error callbacks, and those of a chord that it belongs to, are published here.
    """

    def on_timeout(self, soft: bool, timeout: float) -> None:
        with scope.exactly(self.request_dict.get(scope.HEADER)):
            super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        with scope.exactly(self.request_dict.get(scope.HEADER)):
            return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        with scope.exactly(self.request_dict.get(scope.HEADER)):
            super()._announce_revoked(reason, terminated, signum, expired)
