"""A worker's health: does its loop turn, does it consume its queue, and would its pool take a task."""

import os
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from amqp.exceptions import RecoverableConnectionError
from celery import bootsteps, signals
from celery.utils.log import get_logger
from celery.worker import state

from shared.metrics.declared import READY
from shared.metrics.exposition import Exposition
from shared.metrics.requests import look
from shared.status import StatusServer

logger = get_logger(__name__)

#: Seconds between two looks of a worker at itself.
INTERVAL = 1.0
#: Seconds until the next look while it does not consume.
RETRY = 0.1
#: Seconds that a pool may have no process that runs: those that ended together are being replaced.
REPLACED_WITHIN = 5.0
#: Seconds in which a pool where nothing runs takes a task that waits.
TAKEN_WITHIN = 10.0
#: Seconds that a connected worker may hold no consumer until it connects anew.
CONSUMING_WITHIN = 5.0

NO_CONNECTION = "it has no connection to the broker"
#: States of a process, as Linux tells them, in which it runs nothing: stopped, traced, dead.
_GONE = frozenset(b"TtZXx")


class Watch(bootsteps.StartStopStep):
    """Looks, each second and in the worker's own loop, whether it takes work, and says so in `consumer.health`.

    A worker that is connected and holds no consumer connects anew: the broker may have cancelled it, and Celery does
    not always hear that (what it reads in its first moment it does not look at). A consumer that an operator cancelled
    stays so until the operator adds it again.

    With `HEALTH_FILE` it also makes that file, again and again, while it takes work.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self.file: Path | None = consumer.app.settings.health_file
        self.timer: Any = None
        self._due = 0.0
        self._without_consumer = Since(CONSUMING_WITHIN)
        self._broker = Broker()
        self._pool = Pool()
        consumer.each_turn = self._turn

    def start(self, consumer: Any) -> None:
        """Begin to look; the consumer begins to consume only after all its steps have started."""
        self._broker, self._pool = Broker(), Pool()
        self._without_consumer.no()
        if consumer.hub is not None:
            # Without a hub the timer is a thread of its own, which would go on beside a loop that hangs.
            self._look_later(consumer, RETRY)

    def stop(self, consumer: Any) -> None:
        """No connection, no work."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self._say(consumer, NO_CONNECTION)

    def _turn(self, consumer: Any) -> None:
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + (RETRY if consumer.health.fault else INTERVAL)
            self._look(consumer)

    def _look_later(self, consumer: Any, seconds: float) -> None:
        self.timer = consumer.timer.call_after(seconds, self._look_and_again, (consumer,))

    def _look_and_again(self, consumer: Any) -> None:
        self._look(consumer)
        self._look_later(consumer, RETRY if consumer.health.fault else INTERVAL)

    def _look(self, consumer: Any) -> None:
        consumer.health.turn()
        look(consumer.pool)
        self._say(consumer, self._consumes(consumer) or self._broker.fault(consumer) or self._pool.fault(consumer))

    def _consumes(self, consumer: Any) -> str | None:
        """Why not.

        Raises:
            RecoverableConnectionError: it should, and has not for a while. The consumer's loop connects anew.
        """
        name = consumer.app.spec.name
        if name not in consumer.app.amqp.queues.consume_from:
            return f"an operator cancelled its consumer on {name}"
        if _holds_consumer(consumer.task_consumer, name):
            self._without_consumer.no()
            return None
        if self._without_consumer.yes():
            consumer.health.fault = f"it is connected, and has no consumer on {name}"
            raise RecoverableConnectionError(consumer.health.fault)
        return f"it has no consumer on {name}"

    def _say(self, consumer: Any, fault: str | None) -> None:
        if (fault is None) != (consumer.health.fault is None):
            logger.info("not ready: %s", fault) if fault else logger.info("ready")
        consumer.health.fault = fault
        if self.file is not None:
            try:
                self.file.unlink(missing_ok=True) if fault else self.file.touch()
            except OSError as error:
                logger.warning("HEALTH_FILE: cannot make %s: %s", self.file, error.strerror)


def _holds_consumer(tasks: Any, name: str) -> bool:
    if tasks is None or not tasks.consuming_from(name):
        return False
    # A consumer that the broker cancelled is gone from the channel, which kombu's own record does not show.
    return bool(getattr(tasks.channel, "callbacks", True)) and getattr(tasks.channel, "is_open", True)


class Since:
    """Whether something has been so for longer than `seconds`."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._first: float | None = None

    def no(self) -> None:
        """It is not so."""
        self._first = None

    def yes(self) -> bool:
        """It is so; whether it has been for longer."""
        now = self._clock()
        self._first = now if self._first is None else self._first
        return now - self._first > self._seconds


class Broker:
    """Whether the broker is heard.

    It sends a heartbeat in each half of the interval that was agreed on, so silence for the whole of it is a sign. Only
    after twice the interval is the connection given up: until then what runs may still be acknowledged.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._received = -1
        self._heard = clock()

    def fault(self, consumer: Any) -> str | None:
        """Why no task can come over this connection."""
        if consumer.connection is None or not consumer.connection.connected:
            # To ask it for more would connect it anew, here, and wait.
            return NO_CONNECTION
        wire = consumer.connection.connection
        heartbeat = getattr(wire, "heartbeat", 0)
        received = getattr(wire, "bytes_recv", None)
        if not heartbeat or received is None:
            return None
        if received != self._received:
            self._received, self._heard = received, self._clock()
        silence = self._clock() - self._heard
        return f"the broker has said nothing for {silence:.0f} s" if silence > heartbeat else None


class Pool:
    """Whether a pool has taken, or could take, a task. One that is merely busy could."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._nobody = Since(REPLACED_WITHIN, clock)
        self._stuck = Since(TAKEN_WITHIN, clock)
        self._taken = -1

    def fault(self, consumer: Any) -> str | None:
        """Why it can take none."""
        processes = getattr(getattr(consumer.pool, "_pool", None), "_pool", None)
        if processes is None or any(_runs(process.pid) for process in processes):
            self._nobody.no()
        elif self._nobody.yes():
            return "no process of its pool runs"
        taken = state.all_total_count[0]
        if taken == self._taken and not state.active_requests and state.reserved_requests:
            if self._stuck.yes():
                return "its pool takes no task"
        else:
            self._stuck.no()
        self._taken = taken
        return None


def _runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return not Path("/proc/self/stat").exists()
    # The name of the command, in brackets, may hold anything.
    return status.rpartition(b")")[2].lstrip()[0] not in _GONE


class Status(bootsteps.StartStopStep):
    """The worker's status port, in its main process, for as long as this lives."""

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._server: StatusServer | None = None
        self._pid = os.getpid()
        self._told = Exposition(
            forks=worker.pool_cls.__module__.endswith(".prefork"),
            refresh=lambda: READY.set(worker.consumer.health.ready().status == HTTPStatus.OK),
        )

    def start(self, worker: Any) -> None:
        """Answer from now on."""
        settings, health = worker.app.settings, worker.consumer.health
        routes = {**health.routes(), "/metrics": self._told.answer}
        self._server = StatusServer(settings.status_host, settings.status_port, routes, self._told.tidy)
        logger.info("status on port %d", self._server.port)
        signals.worker_process_init.connect(self._forked, weak=False, dispatch_uid="status-port")
        signals.worker_shutting_down.connect(lambda **_: health.stop(), weak=False, dispatch_uid="status-port")
        if worker.pool_cls.__module__.endswith(".solo"):
            # There the loop itself runs the task, and turns after it.
            longest = worker.app.conf.task_time_limit or 0
            signals.task_prerun.connect(lambda **_: health.turn(longest), weak=False, dispatch_uid="status-port")
            signals.task_postrun.connect(lambda **_: health.turn(), weak=False, dispatch_uid="status-port")

    def stop(self, worker: Any) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()
            self._told.close()
            self._server = None

    terminate = stop

    def _forked(self, **_: Any) -> None:
        # The solo pool calls its own process a child.
        if self._server is not None and os.getpid() != self._pid:
            self._server.forget()
