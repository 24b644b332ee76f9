"""Who may do what on the broker: one user a service, one a publisher, each with the least that its work needs.

RabbitMQ checks three things of a user on a resource: configure (declare, delete), write (publish to; bind a queue),
read (consume; bind from an exchange). On a topic exchange a routing key can be checked too.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from shared.spec import ServiceSpec
from shared.topology import (
    DEAD_EXCHANGE,
    DELAY_BITS,
    PUBLISHERS,
    SERVICES,
    TASKS_EXCHANGE,
    dead_letter_queue,
    delay_level,
)

#: Celery's fan-out of control commands to every worker: whoever writes to it can shut them all down.
CONTROL_EXCHANGE = "celery.pidbox"
#: Where workers answer control commands.
REPLY_EXCHANGE = "reply.celery.pidbox"
#: Where workers tell what they do; Flower listens.
EVENT_EXCHANGE = "celeryev"
#: Where a publisher hands in a delayed message.
DELAY_EXCHANGE = delay_level(DELAY_BITS - 1)

OPERATOR, BEAT, FLOWER, MONITOR, ADMIN = "operator", "beat", "flower", "monitor", "admin"
#: Tells Prometheus what the management API says.
EXPORTER = "exporter"


@dataclass(frozen=True)
class User:
    """A broker user.

    Attributes:
        name: as in its URL.
        configure, write, read: regular expressions over names of exchanges and queues.
        calls: services to whose tasks it may publish; None for every routing key.
        buries: the service whose dead letters it may write; None for nobody's.
        tags: of the management API: none, `monitoring` (see) or `administrator` (do everything; for a person).
    """

    name: str
    configure: str = "^$"
    write: str = "^$"
    read: str = "^$"
    calls: tuple[str, ...] | None = ()
    buries: str | None = None
    tags: tuple[str, ...] = ()


def users(services: Iterable[ServiceSpec] = SERVICES) -> tuple[User, ...]:
    """Every user of the broker."""
    services = tuple(services)
    own_queues = [spec.name for spec in services]
    dead_queues = [dead_letter_queue(name) for name in own_queues]
    replies = r".+\.reply\.celery\.pidbox"
    return (
        *(_worker(spec) for spec in services),
        *(User(spec.name, write=_any(TASKS_EXCHANGE), calls=spec.calls) for spec in PUBLISHERS),
        User(
            BEAT,
            write=_any(TASKS_EXCHANGE, EVENT_EXCHANGE),
            # An operator may schedule a task of any service while beat runs.
            calls=tuple(own_queues),
        ),
        User(
            OPERATOR,
            configure=_pattern(replies),
            write=_pattern(
                *map(re.escape, (TASKS_EXCHANGE, DELAY_EXCHANGE, CONTROL_EXCHANGE, EVENT_EXCHANGE)), replies
            ),
            read=_pattern(*map(re.escape, (REPLY_EXCHANGE, "unrouted", *own_queues, *dead_queues)), replies),
            calls=None,
            # `top` asks the management API.
            tags=("monitoring",),
        ),
        User(
            FLOWER,
            # Flower makes Celery's own receiver, which declares the exchange that it listens at.
            configure=_pattern(re.escape(EVENT_EXCHANGE), r"celeryev\..+", replies),
            write=_pattern(re.escape(CONTROL_EXCHANGE), r"celeryev\..+", replies),
            read=_pattern(re.escape(EVENT_EXCHANGE), re.escape(REPLY_EXCHANGE), r"celeryev\..+", replies),
        ),
        User(MONITOR, tags=("monitoring",)),
        User(EXPORTER, tags=("monitoring",)),
        User(ADMIN, configure=".*", write=".*", read=".*", calls=None, tags=("administrator",)),
    )


def _worker(spec: ServiceSpec) -> User:
    control_queue = rf"{re.escape(spec.name)}@.+\.celery\.pidbox"
    return User(
        spec.name,
        # Its own control queue is all that it declares: everything else is there already.
        configure=_pattern(control_queue),
        write=_pattern(
            *map(re.escape, (TASKS_EXCHANGE, DELAY_EXCHANGE, DEAD_EXCHANGE, EVENT_EXCHANGE, REPLY_EXCHANGE)),
            control_queue,
        ),
        read=_pattern(re.escape(spec.name), re.escape(CONTROL_EXCHANGE), control_queue),
        calls=(spec.name, *spec.calls),
        buries=spec.name,
    )


def routing_keys(user: User, exchange: str) -> str | None:
    """The keys that `user` may publish with to a topic exchange, as a regular expression; None where all are."""
    if user.calls is None:
        return None
    if exchange == DEAD_EXCHANGE:
        return f"^{re.escape(user.buries)}$" if user.buries else "^$"
    services = "|".join(map(re.escape, user.calls))
    if not services:
        return "^$"
    delay = rf"([01]\.){{{DELAY_BITS}}}" if exchange == DELAY_EXCHANGE else ""
    return rf"^{delay}({services})\..+$"


def _any(*names: str) -> str:
    return _pattern(*map(re.escape, names))


def _pattern(*patterns: str) -> str:
    return f"^({'|'.join(patterns)})$"
