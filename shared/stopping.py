"""A worker that is told to stop finishes what it runs, or gives back in time what would take too long."""

import os
import signal
from threading import Timer
from typing import Any

from celery import bootsteps, signals
from celery.utils.log import get_logger

logger = get_logger(__name__)


class StopInTime(bootsteps.StartStopStep):
    """Turns a warm stop into a cold one after `ServiceSpec.stop_after` seconds.

    Celery's warm stop takes no new message, keeps its connection alive and waits for its tasks, however long they
    take. Its cold stop ends them, and the broker gives their messages to another worker. Celery's own soft stop, which
    is for both, sleeps in the signal's handler: it sends no heartbeat meanwhile, so the broker closes the connection,
    and what was done in that time is done again by another worker.
    """

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self.stop_after: int | None = worker.app.spec.stop_after

    def start(self, worker: Any) -> None:
        """Wait for the signal to stop."""
        signals.worker_shutting_down.connect(self._on_stop)

    def _on_stop(self, sig: str, how: str, **_: Any) -> None:
        if how == "Warm" and self.stop_after is not None:
            # A thread, because the main one waits for the pool. It must not keep a process alive that is done.
            timer = Timer(self.stop_after, self._give_back)
            timer.daemon = True
            timer.start()

    def _give_back(self) -> None:
        logger.warning("Tasks still run %d s after the signal to stop: they are given back", self.stop_after)
        os.kill(os.getpid(), signal.SIGQUIT)
