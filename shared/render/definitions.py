"""RabbitMQ's definitions: what the broker loads at its start, so that nothing is missing when the first message comes.

Source of the form: RabbitMQ's `load_definitions`; of the delay exchanges: kombu's native delayed delivery.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from shared.render.permissions import (
    CONTROL_EXCHANGE,
    DELAY_EXCHANGE,
    EVENT_EXCHANGE,
    REPLY_EXCHANGE,
    User,
    routing_keys,
    users,
)
from shared.spec import ServiceSpec
from shared.topology import (
    DEAD_EXCHANGE,
    DELAY_BITS,
    DELAY_DELIVERY_EXCHANGE,
    SERVICES,
    TASKS_EXCHANGE,
    UNROUTED_EXCHANGE,
    UNROUTED_QUEUE,
    dead_letter_queue,
    delay_level,
    kept_queue_arguments,
    queue_arguments,
)

VHOST = "/"
Json = dict[str, Any]


def definitions(services: Iterable[ServiceSpec] = SERVICES, password_hashes: Mapping[str, str] | None = None) -> Json:
    """Users, permissions, exchanges, queues and bindings of `services`.

    A user without an entry in `password_hashes` has an empty hash, and RabbitMQ lets nobody in by it: so the committed
    file holds no secret.
    """
    services = tuple(services)
    everyone = users(services)
    hashes = password_hashes or {}
    return {
        "vhosts": [{"name": VHOST}],
        "users": [_user(user, hashes.get(user.name, "")) for user in everyone],
        "permissions": [
            {"user": user.name, "vhost": VHOST, "configure": user.configure, "write": user.write, "read": user.read}
            for user in everyone
        ],
        "topic_permissions": [
            {"user": user.name, "vhost": VHOST, "exchange": exchange, "write": keys, "read": "^$"}
            for user in everyone
            for exchange in (TASKS_EXCHANGE, DELAY_EXCHANGE, DEAD_EXCHANGE)
            if (keys := routing_keys(user, exchange)) is not None
        ],
        "exchanges": _exchanges(),
        "queues": [*_service_queues(services), _queue(UNROUTED_QUEUE, kept_queue_arguments()), *_delay_queues()],
        "bindings": [*_service_bindings(services), _binding(UNROUTED_EXCHANGE, UNROUTED_QUEUE, ""), *_delay_bindings()],
    }


def render(services: Iterable[ServiceSpec] = SERVICES) -> str:
    """The committed file: without passwords."""
    return dump(definitions(services))


def dump(value: Json) -> str:
    """JSON that a diff can be read of."""
    return json.dumps(value, indent=2) + "\n"


def password_hash(password: str, salt: bytes | None = None) -> str:
    """RabbitMQ's salted SHA-256 of a password: base64 of four bytes of salt and the digest."""
    salt = os.urandom(4) if salt is None else salt
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def fits(password: str, hashed: str) -> bool:
    """Whether `hashed`, as `password_hash` gives it, is of `password`."""
    return bool(hashed) and password_hash(password, base64.b64decode(hashed)[:4]) == hashed


def _user(user: User, hashed: str) -> Json:
    return {
        "name": user.name,
        "password_hash": hashed,
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": list(user.tags),
    }


def _exchange(name: str, kind: str, arguments: Json | None = None) -> Json:
    return {
        "name": name,
        "vhost": VHOST,
        "type": kind,
        "durable": True,
        "auto_delete": False,
        "internal": False,
        "arguments": arguments or {},
    }


def _queue(name: str, arguments: Json) -> Json:
    return {"name": name, "vhost": VHOST, "durable": True, "auto_delete": False, "arguments": arguments}


def _binding(source: str, destination: str, key: str, kind: str = "queue") -> Json:
    return {
        "source": source,
        "vhost": VHOST,
        "destination": destination,
        "destination_type": kind,
        "routing_key": key,
        "arguments": {},
    }


def _exchanges() -> list[Json]:
    # What no binding takes is kept, not dropped: at once, and when its delay is over.
    kept = {"alternate-exchange": UNROUTED_EXCHANGE}
    return [
        _exchange(TASKS_EXCHANGE, "topic", kept),
        _exchange(UNROUTED_EXCHANGE, "fanout"),
        # By topic, because RabbitMQ checks routing keys there alone: no service writes dead letters in another's name.
        _exchange(DEAD_EXCHANGE, "topic"),
        _exchange(CONTROL_EXCHANGE, "fanout"),
        _exchange(REPLY_EXCHANGE, "direct"),
        _exchange(EVENT_EXCHANGE, "topic"),
        _exchange(DELAY_DELIVERY_EXCHANGE, "topic", kept),
        *(_exchange(delay_level(bit), "topic") for bit in reversed(range(DELAY_BITS))),
    ]


def _service_queues(services: Iterable[ServiceSpec]) -> Iterable[Json]:
    for spec in services:
        yield _queue(spec.name, queue_arguments(spec.name))
        yield _queue(dead_letter_queue(spec.name), kept_queue_arguments())


def _service_bindings(services: Iterable[ServiceSpec]) -> Iterable[Json]:
    for spec in services:
        for key in spec.binding_keys:
            yield _binding(TASKS_EXCHANGE, spec.name, key)
            # A delayed message still carries its delay, a word a bit, in front of its key. Counting the words keeps
            # `a.mailer.b` from matching `mailer.#`, as kombu's own `#.mailer.#` would.
            yield _binding(DELAY_DELIVERY_EXCHANGE, spec.name, "*." * DELAY_BITS + key)
        yield _binding(DEAD_EXCHANGE, dead_letter_queue(spec.name), spec.name)


def _after(bit: int) -> str:
    return delay_level(bit - 1) if bit else DELAY_DELIVERY_EXCHANGE


def _delay_queues() -> Iterable[Json]:
    """A queue a bit: it holds a message for 2**bit seconds and hands it to the next lower bit's exchange."""
    for bit in reversed(range(DELAY_BITS)):
        yield _queue(
            delay_level(bit),
            {
                "x-queue-type": "quorum",
                "x-overflow": "reject-publish",
                "x-message-ttl": 2**bit * 1000,
                "x-dead-letter-exchange": _after(bit),
                "x-dead-letter-strategy": "at-least-once",
            },
        )


def _delay_bindings() -> Iterable[Json]:
    """A set bit waits in its queue; a clear one goes on to the next lower bit's exchange at once."""
    for bit in reversed(range(DELAY_BITS)):
        words = "*." * (DELAY_BITS - 1 - bit)
        yield _binding(delay_level(bit), delay_level(bit), f"{words}1.#")
        yield _binding(delay_level(bit), _after(bit), f"{words}0.#", "exchange")
