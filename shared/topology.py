"""The one truth about services: who consumes what, how wide, how long, and who may call whom.

Everything else that needs such a fact asks here, or is rendered from here by `celery -A shared.app topology render`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.errors import TopologyError

#: Every task is published here, with its name as routing key.
TASKS_EXCHANGE = "tasks"
#: Takes what no binding of the tasks exchange wants.
UNROUTED_EXCHANGE = "tasks.unrouted"
UNROUTED_QUEUE = "unrouted"
#: Takes what a service rejected, expired or was given too often, with the service's queue as routing key.
DEAD_EXCHANGE = "tasks.dead"
#: A routing key that begins so reaches every service's queue.
EVERYONE = "all"

#: A message that was delivered this often, each time to a worker that died of it, is a dead letter. RabbitMQ's own
#: default is 20; a task that kills its worker should not take twenty of them down.
DELIVERY_LIMIT = 5
#: Seconds. RabbitMQ closes a channel that holds a message unacknowledged for longer (30 minutes unless configured).
CONSUMER_TIMEOUT = 30 * 60
#: Bytes of a message's body. The broker refuses what is larger: files are passed by reference. RabbitMQ's own default.
MAX_MESSAGE_SIZE = 16 * 2**20
#: Seconds for which a worker that is told to stop may go on. Two minutes is what a cloud gives before it takes a node.
STOP_WITHIN = 120
#: Seconds that the end itself may take: the last acknowledgements, the connection, the processes of the pool.
STOP_SPARE = 10
#: Celery's native delayed delivery counts seconds in this many bits, one exchange and one queue a bit.
DELAY_BITS = 28
#: The last of these chained exchanges delivers; the first, of the highest bit, is where a publisher begins.
DELAY_DELIVERY_EXCHANGE = "celery_delayed_delivery"

#: Hosts of the broker's nodes in the local cluster: the first alone, or all of them.
BROKER_NODES = ("rabbitmq", "rabbitmq-2", "rabbitmq-3")
#: Of them, how many have a copy of each queue. Three outlive the loss of one; a fourth would make each write slower.
QUEUE_MEMBERS = 3
#: Hosts of Redis there: the first alone, or with its replica.
REDIS_NODES = ("redis", "redis-replica")

#: A name that a service cannot have, because something else is called so.
RESERVED_NAMES = frozenset(
    "admin alertmanager all amq beat celery celeryev cli dead default exporter flower gateway github grafana guest "
    "health house monitor operator people prometheus rabbitmq redbeat redis replication setup shared tasks "
    "unrouted".split()
)

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


PUBLISHERS: tuple[PublisherSpec, ...] = (
    PublisherSpec(
        name="gateway",
        summary="HTTP and a web page: submits, shows progress, serves reports",
        # The mailer for the reports of its own errors.
        calls=("reporter", "scoped", "mailer"),
    ),
)

SERVICES: tuple[ServiceSpec, ...] = (
    ServiceSpec(
        name="reporter",
        summary="reports of the hottest GitHub repositories",
        # Five pages are fetched at once; children that wait for GitHub cost little.
        concurrency=(6, 12),
        # GitHub may take 30 s to answer, and a task may have to wait for a connection first.
        soft_time_limit=60,
        time_limit=90,
        # The five pages of one report, and the files of all its languages, come at once.
        patience=600,
        # Twelve processes, each with a report's pages: 500 MiB were seen, and 512 MiB were not enough.
        memory=2**30,
        requests=Requests(memory=224 * 2**20),
        scale=(0, 4),
        reports="write",
        calls=("mailer", "webhook"),
        egress=("api.github.com:443",),
        settings=("GITHUB_API_URL", "LOG_LEVEL", "LOG_FORMAT"),
        secrets=("GITHUB_TOKEN",),
        schedules=(Schedule("reporter.produce_report", "0 0 * * *", {"period": "day"}, then="mailer.send_report"),),
    ),
    ServiceSpec(
        name="mailer",
        summary="e-mail: error reports to the administrators, digests, notices",
        concurrency=(2, 4),
        # SMTP_TIMEOUT bounds each answer of the mail server; a mail takes about ten of them.
        soft_time_limit=120,
        time_limit=150,
        # Never none: a report of an error should not wait for a container to start.
        scale=(1, 5),
        # It attaches them.
        reports="read",
        # Any host, SMTP_URL names it; these are the ports of SMTP.
        calls=("webhook",),
        egress=("*:25", "*:465", "*:587"),
        settings=("SMTP_URL", "MAIL_FROM", "ADMINS", "ERROR_WINDOW", "ERRORS_PER_HOUR", "LOG_LEVEL", "LOG_FORMAT"),
        secrets=("SMTP_PASSWORD",),
        schedules=(Schedule("mailer.send_digest", "0 * * * *", {"window": "1h"}, expires=3600),),
        local={"SMTP_URL": "smtp://mailcatcher:1025"},
        # Mail that was parked for review is found by the beginning of its key.
        scans_keys=True,
    ),
    ServiceSpec(
        name="calculator",
        summary="small arithmetic: the first steps of Celery, and every canvas primitive",
        concurrency=(2, 4),
        soft_time_limit=30,
        time_limit=45,
        # Somebody looks at a page meanwhile.
        patience=120,
        memory=384 * 2**20,
        calls=("webhook",),
        settings=("LOG_LEVEL", "LOG_FORMAT"),
        # The example. A tick is worth nothing when the next one is there.
        schedules=(Schedule("calculator.add_days", kwargs={"days": 1}, every=10, expires=10),),
    ),
    ServiceSpec(
        name="scoped",
        summary="tasks that inherit their caller's scope: scenarios, notices in the reader's language",
        concurrency=(2, 4),
        soft_time_limit=30,
        time_limit=45,
        # Somebody looks at a page meanwhile.
        patience=120,
        memory=384 * 2**20,
        calls=("mailer", "webhook"),
        settings=("LOG_LEVEL", "LOG_FORMAT"),
    ),
    ServiceSpec(
        name="webhook",
        summary="outcomes by HTTP, for callers who speak nothing else",
        concurrency=(2, 8),
        soft_time_limit=60,
        time_limit=90,
        memory=384 * 2**20,
        # Any host that CALLBACK_HOSTS lists.
        egress=("*:443",),
        settings=("CALLBACK_HOSTS", "CALLBACK_NETWORKS", "LOG_LEVEL", "LOG_FORMAT"),
        secrets=("CALLBACK_SECRET",),
    ),
)


def service(name: str) -> ServiceSpec:
    """The service called `name`.

    Raises:
        TopologyError: there is none.
    """
    for spec in SERVICES:
        if spec.name == name:
            return spec
    raise TopologyError(f"there is no service {name!r}: choose one of {', '.join(spec.name for spec in SERVICES)}")


def dead_letter_queue(name: str) -> str:
    """Where messages of the queue `name` go that cannot be done."""
    return f"{name}.dead"


def kept_queues(services: Iterable[ServiceSpec] = SERVICES) -> tuple[str, ...]:
    """Every queue that holds work: what no service takes, and each service's own and its dead letters."""
    return UNROUTED_QUEUE, *(name for spec in services for name in (spec.name, dead_letter_queue(spec.name)))


def kept_queue_arguments() -> dict[str, Any]:
    """How a queue is declared whose messages wait for an operator: dead letters, and what no service takes.

    A quorum queue counts how often a message was taken and put back, and RabbitMQ 4 drops it after 20 times: without
    -1, to look at dead letters would be to lose them.
    """
    return {"x-queue-type": "quorum", "x-delivery-limit": -1}


def delay_level(bit: int) -> str:
    """The exchange, and the queue behind it, that holds a message for 2**`bit` seconds."""
    return f"celery_delayed_{bit}"


def queue_arguments(name: str) -> dict[str, Any]:
    """How the work queue `name` is declared. A worker and the broker's definitions must say the same."""
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": DEAD_EXCHANGE,
        "x-dead-letter-routing-key": name,
        # A message leaves the queue only when the dead-letter queue has confirmed it; that asks for reject-publish.
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def validate(services: tuple[ServiceSpec, ...] = SERVICES) -> None:
    """Raise TopologyError at the first thing that two services, or one with itself, cannot agree on."""
    names = [spec.name for spec in services]
    for spec in services:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", spec.name):
            raise TopologyError(f"service {spec.name!r}: a name is lower-case letters, digits and _, a letter first")
        if spec.name in RESERVED_NAMES or spec.name.startswith("celery_"):
            raise TopologyError(f"service {spec.name!r}: the name is taken by the system itself, choose another")
        if names.count(spec.name) > 1:
            raise TopologyError(f"service {spec.name!r} is there twice: give one of them another name")
        least, most = spec.concurrency
        if not 1 <= least <= most:
            raise TopologyError(f"service {spec.name!r}: concurrency {spec.concurrency} must be (least, most), from 1")
        fewest, biggest = spec.scale
        if not 0 <= fewest <= biggest or not fewest <= spec.replicas <= biggest:
            raise TopologyError(
                f"service {spec.name!r}: scale {spec.scale} must be (fewest, most), from 0, with replicas="
                f"{spec.replicas} between them"
            )
        if not 0 < spec.requests.memory <= spec.memory:
            raise TopologyError(f"service {spec.name!r}: requests.memory must be from 1 to memory={spec.memory} bytes")
        if not 0 < spec.soft_time_limit < spec.time_limit < CONSUMER_TIMEOUT:
            raise TopologyError(
                f"service {spec.name!r}: soft_time_limit < time_limit < {CONSUMER_TIMEOUT} (the broker's consumer "
                f"timeout) must hold, but they are {spec.soft_time_limit} and {spec.time_limit}"
            )
        if spec.patience <= spec.time_limit:
            raise TopologyError(
                f"service {spec.name!r}: patience must be more seconds than time_limit={spec.time_limit}, "
                f"but it is {spec.patience}"
            )
        for callee in spec.calls:
            if callee not in names:
                raise TopologyError(f"service {spec.name!r} calls {callee!r}, which is no service: add it or drop it")
        for schedule in spec.schedules:
            if schedule.task.partition(".")[0] != spec.name:
                raise TopologyError(f"service {spec.name!r} schedules {schedule.task!r}, a task of another service")
            if bool(schedule.crontab) == (schedule.every is not None):
                raise TopologyError(f"service {spec.name!r} schedules {schedule.task!r}: give it `crontab` or `every`")
            if schedule.every is not None and schedule.every < 1:
                raise TopologyError(f"service {spec.name!r} schedules {schedule.task!r}: `every` is seconds, from 1")
            if schedule.then and schedule.then.partition(".")[0] not in (spec.name, *spec.calls):
                raise TopologyError(
                    f"service {spec.name!r} schedules {schedule.then!r} after {schedule.task!r}, a task of a service "
                    "that it does not call: add it to `calls`"
                )
        for name in spec.local:
            if name not in spec.settings:
                raise TopologyError(f"service {spec.name!r} has {name} in `local`, but not in `settings`: add it there")
