"""What can be said of a service: the words in which the files of shared/specs are written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

#: Seconds for which a worker that is told to stop may go on. Two minutes is what a cloud gives before it takes a node.
STOP_WITHIN = 120
#: Seconds that the end itself may take: the last acknowledgements, the connection, the processes of the pool.
STOP_SPARE = 10
#: A routing key that begins so reaches every service's queue.
EVERYONE = "all"

Pool = Literal["prefork", "threads", "gevent", "solo"]


@dataclass(frozen=True)
class Schedule:
    """A task that beat publishes by the clock.

    Attributes:
        task: its name.
        crontab: the five fields of crontab(5), in UTC; empty where `every` says when.
        kwargs: its arguments, checked against its signature before beat starts.
        expires: seconds after which a tick that no worker took is worth nothing.
        scope: the scope in which the task runs.
        then: a task that gets the first one's result, as its only argument, when that is done.
        every: seconds between two ticks, from 1; None where `crontab` says when.
    """

    task: str
    crontab: str = ""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    expires: int = 12 * 3600
    scope: Mapping[str, Any] = field(default_factory=dict)
    then: str | None = None
    every: int | None = None

    @property
    def name(self) -> str:
        """Of its entry in the schedule."""
        return f"{self.task}@{self.crontab or f'every {self.every} s'}"


@dataclass(frozen=True)
class Requests:
    """What a worker's container needs at least, for a scheduler that places it. Measured: `make k8s-resources`.

    Attributes:
        cpu: thousandths of a core: its share where all want more. Idle it takes 4; busy, what is free.
        memory: bytes, idle, with the smallest number of processes: 45 MiB, and 20 for each.
    """

    cpu: int = 25
    memory: int = 96 * 2**20


@dataclass(frozen=True)
class ServiceSpec:
    """A kind of work with its own image, queue and pool.

    Attributes:
        name: of the service, its queue, its image, its broker user; routing keys `<name>.#` lead to it.
        summary: one line for people.
        pool: Celery's execution pool.
        concurrency: the smallest and the largest number of tasks at once in one worker; the pool moves between
            them by load. Equal numbers hold it still.
        soft_time_limit: seconds until a task is told to end (it may still tidy up).
        time_limit: seconds until its process is killed.
        patience: seconds that a message may wait in the queue; an older one calls an operator. More than the hard time
            limit, or a pool whose tasks are all slow would be an alarm.
        memory: bytes that one worker's container may use.
        requests: what it needs at least, of processor and memory.
        replicas: containers to start with.
        scale: the smallest and the largest number of containers where something scales them by the length of the
            queue; from 0, the pool is there only while there is work.
        reports: whether it reads reports, or also writes them; None where it does neither.
        calls: services whose tasks this one publishes, besides its own.
        egress: hosts and ports outside that it speaks to, `host:port`.
        settings: environment variables that its container takes over from the user's.
        secrets: settings that are secret: the user gives a file, in the variable `<NAME>_FILE`.
        schedules: what beat publishes for it.
        local: what the local cluster gives a setting that the user leaves out.
        system_packages: Debian's packages that its image has besides.
        gpus: of a node's graphics processors, how many each of its pods has for itself; Kubernetes alone gives them.
        scans_keys: whether it looks for its own keys in Redis by their names (SCAN), and so may see others' names too.
    """

    name: str
    summary: str
    pool: Pool = "prefork"
    concurrency: tuple[int, int] = (2, 4)
    soft_time_limit: int = 60
    time_limit: int = 90
    patience: int = 300
    memory: int = 512 * 2**20
    requests: Requests = Requests()
    replicas: int = 1
    scale: tuple[int, int] = (0, 5)
    reports: Literal["read", "write"] | None = None
    calls: tuple[str, ...] = ()
    egress: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    local: Mapping[str, str] = field(default_factory=dict)
    system_packages: tuple[str, ...] = ()
    gpus: int = 0
    scans_keys: bool = False

    @property
    def binding_keys(self) -> tuple[str, ...]:
        """Routing keys, as patterns, that lead to this service's queue."""
        return f"{self.name}.#", f"{EVERYONE}.#"

    @property
    def stop_after(self) -> int | None:
        """Seconds after which a worker that stops gives back what it still runs.

        None where the hard limit ends every task in time: there it finishes what it runs.
        """
        return None if self.time_limit <= STOP_WITHIN else STOP_WITHIN

    @property
    def grace(self) -> int:
        """Seconds between the signal to stop and the kill, under compose and Kubernetes."""
        return self.time_limit + (self.stop_after or 0) + STOP_SPARE

    @property
    def app(self) -> str:
        """What `celery -A` takes to start its worker."""
        return f"services.{self.name}.app"


@dataclass(frozen=True)
class PublisherSpec:
    """Who submits tasks and runs none: it has a broker user and an image, but no queue.

    Attributes:
        name: of its image and its broker user.
        summary: one line for people.
        calls: services whose tasks it publishes.
    """

    name: str
    summary: str
    calls: tuple[str, ...]
