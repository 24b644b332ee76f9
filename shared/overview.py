"""All services at one look: what waits, what comes and goes, what was given up, who works at it.

Of the queues RabbitMQ's management API tells, which counts anew each 5 s; of the pools the workers themselves.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from shared.queue_age import QueueAge
from shared.spec import ServiceSpec
from shared.topology import DELAY_BITS, SERVICES, UNROUTED_QUEUE, dead_letter_queue, delay_level

_COLUMNS = "name,messages,messages_ready,messages_unacknowledged,consumers,message_stats"
#: Seconds that workers have to say how large their pools are, where fewer than expected answer.
PATIENCE = 1.0


@dataclass(frozen=True)
class Service:
    """A service's queue and its workers.

    Attributes:
        workers: consumers of its queue.
        pool: tasks that they can run at once; None where no worker said.
        running: tasks that they run; None likewise.
        ready: messages that wait.
        unacked: messages that were taken and are not done.
        rate_in, rate_out: messages a second that came, and that were done.
        wait: seconds that the first message has waited, at least; None where that is not known yet.
        dead: dead letters.
        rate_dead: dead letters a second that came.
    """

    name: str
    workers: int
    pool: int | None
    running: int | None
    ready: int
    unacked: int
    rate_in: float
    rate_out: float
    wait: float | None
    dead: int
    rate_dead: float


@dataclass(frozen=True)
class Overview:
    """One look.

    Attributes:
        time: ISO 8601 in UTC.
        delayed: messages whose delay has not ended.
        unrouted: messages that no service takes.
        alarms: for want of what the broker takes no message: `memory`, `disk`.
        missing: what could not be learned, and why, for people.
    """

    time: str
    services: tuple[Service, ...] = ()
    delayed: int = 0
    unrouted: int = 0
    alarms: tuple[str, ...] = ()
    missing: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


@dataclass(frozen=True)
class Pool:
    """What the workers of one service have said of themselves."""

    size: int
    running: int


class Watcher:
    """Looks again and again.

    Args:
        ask: gives what is at a path of the management API; raises OSError or ValueError.
        pools: gives the pools by service, told how many workers are expected.
    """

    def __init__(
        self,
        ask: Callable[[str], Any],
        pools: Callable[[int], dict[str, Pool]],
        services: Iterable[ServiceSpec] = SERVICES,
    ) -> None:
        self._ask, self._pools, self._services = ask, pools, tuple(services)
        self._ages = {spec.name: QueueAge() for spec in self._services}
        self._looks = 0

    def look(self) -> Overview:
        """Once. Raises OSError or ValueError where the management API gives no answer."""
        queues = {one["name"]: one for one in self._ask(f"/queues/%2F?columns={_COLUMNS}")}
        nodes = self._ask("/nodes?columns=name,mem_alarm,disk_free_alarm")
        workers = sum(_count(queues.get(spec.name), "consumers") for spec in self._services)
        missing: tuple[str, ...] = ()
        pools: dict[str, Pool] = {}
        try:
            pools = self._pools(workers) if workers else {}
            if workers and not pools:
                missing = ("pools: no worker answers",)
        except Exception as error:  # the broker's own errors are many, and the queues are told all the same
            missing = (f"pools: {error}",)
        self._looks += 1
        delays = map(delay_level, range(DELAY_BITS))
        return Overview(
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            services=tuple(self._service(spec.name, queues, pools.get(spec.name)) for spec in self._services),
            delayed=sum(_count(queues.get(name), "messages") for name in delays),
            unrouted=_count(queues.get(UNROUTED_QUEUE), "messages"),
            alarms=tuple(
                kind
                for kind, flag in (("memory", "mem_alarm"), ("disk", "disk_free_alarm"))
                if any(node.get(flag) for node in nodes)
            ),
            missing=missing,
        )

    def _service(self, name: str, queues: dict[str, Any], pool: Pool | None) -> Service:
        queue, dead = queues.get(name), queues.get(dead_letter_queue(name))
        ready, stats = _count(queue, "messages_ready"), (queue or {}).get("message_stats") or {}
        age = self._ages[name].look(
            time.monotonic(), ready=ready, messages=_count(queue, "messages"), published=_count(stats, "publish")
        )
        return Service(
            name=name,
            workers=_count(queue, "consumers"),
            pool=pool.size if pool else None,
            running=pool.running if pool else None,
            ready=ready,
            unacked=_count(queue, "messages_unacknowledged"),
            rate_in=_rate(stats, "publish"),
            rate_out=_rate(stats, "ack"),
            # Of what was there before the first look nothing is known by counts alone.
            wait=None if ready and self._looks == 1 else age,
            dead=_count(dead, "messages"),
            rate_dead=_rate((dead or {}).get("message_stats") or {}, "publish"),
        )


def pools(app: Any, expected: int) -> dict[str, Pool]:
    """The pools by service, as their workers say within PATIENCE; at once when all that are expected have."""
    inspect = app.control.inspect(timeout=PATIENCE, limit=expected)
    sizes, running = inspect.stats() or {}, inspect.active() or {}
    found: dict[str, Pool] = {}
    for worker, stats in sizes.items():
        name = worker.partition("@")[0]
        before = found.get(name, Pool(0, 0))
        found[name] = Pool(
            before.size + _size(stats.get("pool") or {}), before.running + len(running.get(worker) or ())
        )
    return found


def _size(pool: dict[str, Any]) -> int:
    # A pool of processes names them; it may have grown or shrunk since it was told its size.
    processes = pool.get("processes")
    return len(processes) if isinstance(processes, list) else int(pool.get("max-concurrency") or 0)


def _count(found: Any, field: str) -> int:
    # Of a queue that was declared a moment ago nothing is counted yet.
    return int((found or {}).get(field) or 0)


def _rate(stats: dict[str, Any], kind: str) -> float:
    return float((stats.get(f"{kind}_details") or {}).get("rate") or 0.0)
