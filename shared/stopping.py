"""A worker that is told to stop finishes what it runs, or gives back in time what would take too long."""

import os
import signal
from inspect import GEN_CREATED, getgeneratorstate, isgenerator
from threading import Timer
from time import monotonic
from typing import Any

from celery import bootsteps, signals
from celery.utils.log import get_logger

logger = get_logger(__name__)

#: Seconds in which a process of the pool says that it has taken a task.
TO_BEGIN = 5.0


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


def hear_what_began(pool: Any, hub: Any) -> None:
    """Have every task that a process of the pool was given count as begun, before the loop is left.

    Celery throws away what no process has said to have begun, for the broker delivers it again. But a process says so
    through a pipe, and the loop may have been left before it was read: the task is run all the same, a second time
    elsewhere, and nobody reads its end, for which its process then waits 30 s before it stops.

    Args:
        pool: the worker's; all but prefork have no such pipes.
        hub: the loop that was left; None where there is none.
    """
    # Here, because who imports this module to publish needs nothing of a worker.
    from celery.worker import state

    processes: Any = getattr(pool, "_pool", None)
    # It may be 0, the code that the worker is to end with.
    ends_tasks = state.should_terminate is not None and state.should_terminate is not False
    if hub is None or not hasattr(processes, "_active_writers") or ends_tasks:
        return
    ends = monotonic() + TO_BEGIN
    for job in [job for job in processes._cache.values() if job._write_to is not None]:
        process, writer = job._write_to, job._writer()
        # Large arguments may be half written: their process has begun to read them.
        if writer in processes._active_writers and getgeneratorstate(writer) != GEN_CREATED:
            processes._flush_writer(process, writer)
        said = process.outq._reader
        while not job._accepted and monotonic() < ends:
            readable = said.poll(0.1)
            if not (_read(hub, said.fileno()) if readable else process._is_alive()):
                break
        else:
            if not job._accepted:
                logger.warning("Process %s did not begin within %g s what it was given", process.pid, TO_BEGIN)


def _read(hub: Any, fd: int) -> bool:
    """What the loop does where there is something to read; whether it still listens there."""
    if fd not in hub.readers:
        return False
    callback, arguments = hub.readers[fd]
    if not isgenerator(callback):
        callback(*arguments)
        return True
    try:
        next(callback)
    except StopIteration:
        pass  # it was the rest of a message
    except (OSError, EOFError):
        hub.remove_reader(fd)
    return True
