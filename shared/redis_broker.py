"""Redis as the broker: what it needs to be one here, and what it does not give.

kombu keeps a queue as a list, takes a message off it, notes it in a hash, and puts it back when it has been there for
the visibility timeout. RabbitMQ's confirms, alternate and dead-letter exchanges, delivery counts and delays are not
there. What can be made good is: a worker moves dead letters itself, deliveries are counted in Redis, a message that
no service takes is refused where it is published. Source: kombu.transport.redis.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amqp.exceptions import ChannelError, MessageNacked

from shared.config import Settings
from shared.errors import Error
from shared.spec import EVERYONE
from shared.topology import SERVICES

#: What is weaker than over RabbitMQ: said where a worker or a publisher starts.
WEAKER = (
    "a message is confirmed when Redis has it in memory, and lost with what Redis had not written to disk",
    "a message is lost when a worker dies between taking it and noting it",
    "what a dead worker held waits for BROKER_VISIBILITY_TIMEOUT, and a task that runs longer runs twice",
    "delays are held by a worker, each in the place of a task, and may be no longer than BROKER_VISIBILITY_TIMEOUT",
    "what cannot be made a dead letter at once is tried again after BROKER_VISIBILITY_TIMEOUT",
    "a message that no service takes is refused where it is published, and not kept",
    "every service's user may read and write every queue",
)
#: Redis' database for messages. Results, locks and schedules have 0.
DATABASE = 1
#: Seconds for which deliveries of one message are counted.
COUNT_EXPIRES = 7 * 24 * 3600
#: What the keys begin with that count them.
DELIVERIES = "deliveries:"


class Unroutable(Error, ValueError):
    """No service takes a task of this name."""


class DelayTooLong(Error, ValueError):
    """A message would be given to a second worker while the first one holds it until its time."""


def warning() -> str:
    """What to say at the start of whoever uses Redis as the broker."""
    return "BROKER_URL is Redis, which promises less than RabbitMQ (docs/choices.md): " + "; ".join(WEAKER)


def transport_options(settings: Settings) -> dict[str, Any]:
    """kombu's options for its Redis transport."""
    return {
        "visibility_timeout": settings.broker_visibility_timeout,
        # Look each 10 s, or where nothing comes, for what has been held for longer; kombu's own is 100 s.
        "unacked_restore_throttle": 1,
        "socket_timeout": settings.publish_timeout,
        "socket_connect_timeout": 3.0,
        "socket_keepalive": True,
        "health_check_interval": 30,
    }


def check(routing_key: str, delay: float, settings: Settings) -> None:
    """Refuse what RabbitMQ would keep, or hold, and Redis would not.

    Raises:
        Unroutable: nobody takes it.
        DelayTooLong: `delay`, in seconds, is longer than Redis waits for an acknowledgement.
    """
    if routing_key.partition(".")[0] not in {EVERYONE, *(spec.name for spec in SERVICES)}:
        raise Unroutable(f"no service takes {routing_key!r}, and Redis keeps no such message: see `topology show`")
    if delay >= settings.broker_visibility_timeout:
        raise DelayTooLong(
            f"a delay of {delay:.0f} s: over Redis it must be shorter than BROKER_VISIBILITY_TIMEOUT, "
            f"{settings.broker_visibility_timeout:g} s. Raise that everywhere, or publish later"
        )


@contextmanager
def in_common_words(connection: Any) -> Iterator[None]:
    """Have what redis-py raises say what it says of a message in the words that any publisher knows.

    Raises:
        ConnectionError: Redis is away, or does not answer.
        MessageNacked: it has no memory left, or is a replica.
        ChannelError: it refused the command for another reason, such as a right that is missing.
    """
    if connection.transport.driver_type != "redis":
        yield
        return
    from redis import exceptions as redis

    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise ConnectionError(str(error)) from error
    except (redis.OutOfMemoryError, redis.ReadOnlyError) as error:
        raise MessageNacked(str(error)) from error
    except redis.ResponseError as error:
        raise ChannelError(str(error)) from error


def count_delivery(message: Any) -> int:
    """How often `message` was given back before this delivery; counted here, because Redis does not.

    Costs a round trip, and that only for a message that was given back at least once.
    """
    if not message.delivery_info.get("redelivered"):
        return 0
    name = f"{DELIVERIES}{message.delivery_info.get('routing_key')}:{message.delivery_tag}"
    with message.channel.conn_or_acquire() as client:
        count, _ = client.pipeline().incr(name).expire(name, COUNT_EXPIRES).execute()
    return int(count)
