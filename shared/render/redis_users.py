"""Who may do what in Redis: one user a service, one a publisher, each with the keys that its work needs.

Source of the form: Redis, "ACL" (`user` lines of a configuration file).
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from shared import keys
from shared.redis_broker import DELIVERIES
from shared.render.permissions import BEAT, FLOWER, OPERATOR
from shared.spec import ServiceSpec
from shared.topology import PUBLISHERS, SERVICES, UNROUTED_QUEUE

#: Asks whether the server is alive; needs no password.
HEALTH = "health"
#: By which the one server copies the other.
REPLICATION = "replication"

#: What a client library says of itself and of its connection.
_TALK = "+@connection"
_READ = "+@read"
#: Values and scripts. EVAL may do no more to a key than its user may without it.
_WORK = "+@read +@write +@transaction +eval +evalsha +script|load +script|exists +time"
#: Word of a result, to whoever waits for it.
_NEWS = "+subscribe +unsubscribe +psubscribe +punsubscribe"
#: What these groups contain and nobody needs: to break others' work, or to learn names of keys that are not one's own.
_NEVER = "-@admin -@dangerous -scan -randomkey -dbsize -swapdb -move -function -fcall -fcall_ro"

#: Keys of kombu's Redis transport: what is not acknowledged, bindings, queues of control and of events; and ours that
#: count deliveries.
_OF_KOMBU = (f"{UNROUTED_QUEUE}*", "unacked*", "_kombu.*", "*.celery.pidbox*", "celeryev*", f"{DELIVERIES}*")


@dataclass(frozen=True)
class RedisUser:
    """A user of Redis.

    Attributes:
        name: as in its URL.
        keys: what its keys begin with.
        commands: rules over commands, in Redis' own form.
        reads: what keys begin with that it may read and not write.
        channels: what the channels begin with that it may hear and speak on.
    """

    name: str
    keys: tuple[str, ...] = ()
    commands: str = ""
    patterns: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()

    def line(self, password: str) -> str:
        """Its line of a configuration file. The password itself is not in it."""
        rules = [
            f"user {self.name} on #{hashlib.sha256(password.encode()).hexdigest()} resetkeys resetchannels -@all",
            *(f"~{prefix}*" for prefix in self.keys),
            *(f"~{pattern}" for pattern in self.patterns),
            *(f"%R~{prefix}*" for prefix in self.reads),
            *(f"&{prefix}*" for prefix in self.channels),
            self.commands,
        ]
        return " ".join(rules)


def users(services: Iterable[ServiceSpec] = SERVICES) -> tuple[RedisUser, ...]:
    """Every user of Redis that is a client of the system."""
    results = (keys.RESULTS, keys.GROUPS)
    worker = f"{_TALK} {_WORK} +publish {_NEWS} {_NEVER}"
    return (
        *(
            RedisUser(
                spec.name,
                # Any service may be a part of any canvas: its chord is counted by whoever runs the header's tasks.
                (*results, keys.own(spec.name)),
                f"{worker} +scan" if spec.scans_keys else worker,
                channels=(keys.RESULTS,),
            )
            for spec in services
        ),
        # It remembers what was handed in, and may hand in a chord.
        *(RedisUser(spec.name, results, worker, channels=(keys.RESULTS,)) for spec in PUBLISHERS),
        # Nobody waits for what it publishes.
        RedisUser(BEAT, (keys.SCHEDULE,), f"{_TALK} {_WORK} {_NEVER}"),
        RedisUser(FLOWER, reads=results, commands=f"{_TALK} {_READ} {_NEWS} {_NEVER}", channels=(keys.RESULTS,)),
        RedisUser(
            OPERATOR,
            (*results, keys.SCHEDULE, keys.DEAD_LETTERS),
            f"{worker} +info",
            channels=(keys.RESULTS,),
        ),
    )


def with_broker(user: RedisUser, services: Iterable[ServiceSpec] = SERVICES) -> RedisUser:
    """The same user where Redis is the broker too: every queue, and every service's, is open to it."""
    return replace(
        user,
        # A queue is a list of its name, one more for each priority, and one for its dead letters. What follows a colon
        # is a service's own.
        patterns=(
            *(pattern for spec in services for pattern in (spec.name, f"{spec.name}[^:_a-z0-9]*")),
            *_OF_KOMBU,
        ),
        commands=f"{_TALK} {_WORK} +publish {_NEWS} {_NEVER}"
        + "".join(f" {one}" for one in ("+scan", "+info") if one in user.commands.split()),
        # To all: kombu subscribes to patterns, and Redis compares these letter by letter with what is allowed.
        channels=("",),
    )


def lines(passwords: Mapping[str, str], services: Iterable[ServiceSpec] = SERVICES, *, broker: bool = False) -> str:
    """A line a user, each of whom has a password in `passwords`.

    Args:
        broker: whether Redis is the broker too.
    """
    services = tuple(services)
    named = (with_broker(user, services) if broker else user for user in users(services))
    return "\n".join(user.line(passwords[user.name]) for user in named)
