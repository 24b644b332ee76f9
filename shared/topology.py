"""The one truth about services: who consumes what, how wide, how long, and who may call whom.

Everything else that needs such a fact asks here, or is rendered from here by `celery -A shared.app topology render`.
"""

import keyword
import re
from collections.abc import Iterable
from typing import Any

from shared import specs
from shared.errors import TopologyError
from shared.spec import PublisherSpec, ServiceSpec

#: Every task is published here, with its name as routing key.
TASKS_EXCHANGE = "tasks"
#: Takes what no binding of the tasks exchange wants.
UNROUTED_EXCHANGE = "tasks.unrouted"
UNROUTED_QUEUE = "unrouted"
#: Takes what a service rejected, expired or was given too often, with the service's queue as routing key.
DEAD_EXCHANGE = "tasks.dead"

#: A message that was delivered this often, each time to a worker that died of it, is a dead letter. RabbitMQ's own
#: default is 20; a task that kills its worker should not take twenty of them down.
DELIVERY_LIMIT = 5
#: Seconds. RabbitMQ closes a channel that holds a message unacknowledged for longer (30 minutes unless configured).
CONSUMER_TIMEOUT = 30 * 60
#: Bytes of a message's body. The broker refuses what is larger: files are passed by reference. RabbitMQ's own default.
MAX_MESSAGE_SIZE = 16 * 2**20
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

#: Characters of a service's name. Kubernetes takes 63, of which a pod's name adds some.
LONGEST_NAME = 40
#: A name that a service cannot have, because something else is called so.
RESERVED_NAMES = frozenset(
    "admin alertmanager all amq beat celery celeryev cli dead default exporter flower gateway github grafana guest "
    "health house monitor operator people prometheus rabbitmq redbeat redis replication setup shared tasks "
    "unrouted".split()
)

PUBLISHERS: tuple[PublisherSpec, ...] = (
    PublisherSpec(
        name="gateway",
        summary="HTTP and a web page: submits, shows progress, serves reports",
        # The mailer for the reports of its own errors.
        calls=("reporter", "scoped", "mailer"),
    ),
)

SERVICES: tuple[ServiceSpec, ...] = specs.every()


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
        if keyword.iskeyword(spec.name) or len(spec.name) > LONGEST_NAME:
            raise TopologyError(
                f"service {spec.name!r}: a name has at most {LONGEST_NAME} characters and is no word of Python's own"
            )
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
        if spec.gpus < 0:
            raise TopologyError(f"service {spec.name!r}: gpus={spec.gpus} must be a number, from 0")
        for package in spec.system_packages:
            if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", package):
                raise TopologyError(
                    f"service {spec.name!r}: {package!r} in `system_packages` is no name of a Debian package"
                )
        for outside in spec.egress:
            host, _, port = outside.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
                raise TopologyError(f"service {spec.name!r}: {outside!r} in `egress` must be host:port, or *:port")
        for name in spec.local:
            if name not in spec.settings:
                raise TopologyError(f"service {spec.name!r} has {name} in `local`, but not in `settings`: add it there")
