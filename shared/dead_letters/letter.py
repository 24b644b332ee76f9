"""A dead letter as an operator sees it, whether a worker buried it or the broker did."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from shared import serializers
from shared.dead_letters.cause import FIRST_PUBLISHED, HEADER, REPLAYS, Reason, attempts, origin, published_headers
from shared.topology import DELIVERY_LIMIT, UNROUTED_QUEUE

#: The reasons that RabbitMQ notes: https://www.rabbitmq.com/docs/dlx#effects
_BROKERS = {
    "rejected": Reason.REJECTED,
    "expired": Reason.EXPIRED,
    "delivery_limit": Reason.DELIVERY_LIMIT,
    "maxlen": Reason.REJECTED,
}


@dataclass(frozen=True)
class DeadLetter:
    """One message that could not be done.

    Attributes:
        key: names this letter and no other; it stays the same however often the letter is looked at.
        queue: where it lies.
        id: the task's; empty where the message is no task's.
        task: its name; empty likewise.
        reason: one of `Reason`.
        exception, traceback: what was raised; empty where nothing was, or where the broker buried the letter.
        attempts: how often the task was begun.
        host: the worker that gave it up; empty where the broker did.
        first: when it was asked for first, in ISO 8601 and UTC; `last` where nobody noted it.
        last: when it was given up; empty where nobody noted it.
        exchange, routing_key: what its publisher named.
        replays: how often an operator has replayed it.
        headers: as the publisher set them.
        properties: the message's other properties.
        body: its bytes.
    """

    key: str
    queue: str
    id: str
    task: str
    reason: str
    exception: str
    traceback: str
    attempts: int
    host: str
    first: str
    last: str
    exchange: str
    routing_key: str
    replays: int
    headers: dict[str, Any]
    properties: dict[str, Any]
    body: bytes

    @property
    def payload(self) -> Any:
        """The decoded body: arguments, keyword arguments, what follows. None where it cannot be decoded."""
        if "compression" in self.headers:
            return None
        try:
            return serializers.decode(self.body, self.properties.get("content_type"))
        except Exception:  # it may be anything
            return None

    def age(self, now: datetime) -> float:
        """Seconds since `last`; 0 where nobody noted it."""
        return (now - datetime.fromisoformat(self.last)).total_seconds() if self.last else 0.0

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON takes it. A body that nobody can decode is base64 in `body_base64`; `payload` is null."""
        value = asdict(self)
        body = value.pop("body")
        value["payload"] = self.payload
        if value["payload"] is None:
            value["body_base64"] = base64.b64encode(body).decode()
        return json.loads(json.dumps(value, default=str))


def read(queue: str, message: Any) -> DeadLetter:
    """The letter that `message` (a `kombu` one, of `queue`) is. Any message is one: what it does not say is empty."""
    headers: Mapping[str, Any] = message.headers if isinstance(message.headers, Mapping) else {}
    noted = headers.get(HEADER)
    if not isinstance(noted, Mapping):
        noted = _noted_by_broker(queue, headers, message.delivery_info)
    own = published_headers(headers)
    if not message.errors:
        # kombu has unpacked the body.
        own.pop("compression", None)
    body = message.body.encode(message.content_encoding or "utf-8") if isinstance(message.body, str) else message.body
    begun, replays = noted.get("attempts"), own.get(REPLAYS)
    return DeadLetter(
        key=_key(queue, headers, body),
        queue=queue,
        id=_text(own.get("id")),
        task=_text(own.get("task")),
        **{name: _text(noted.get(name)) for name in _TEXTS},
        attempts=begun if isinstance(begun, int) else 1,
        replays=replays if isinstance(replays, int) else 0,
        headers=own,
        properties={
            "content_type": message.content_type,
            "content_encoding": message.content_encoding,
            **{name: value for name, value in message.properties.items() if name not in _NOT_SHOWN},
        },
        body=body,
    )


_NOT_SHOWN = frozenset({"application_headers", "body_encoding", "delivery_info", "delivery_tag"})
_TEXTS = ("reason", "exception", "traceback", "host", "first", "last", "exchange", "routing_key")


def _noted_by_broker(queue: str, headers: Mapping[str, Any], delivery: Mapping[str, Any]) -> dict[str, Any]:
    if queue == UNROUTED_QUEUE:
        exchange, key = origin(delivery.get("exchange"), delivery.get("routing_key"))
        first = headers.get(FIRST_PUBLISHED)
        return {
            "reason": Reason.UNROUTED,
            "first": first,
            "last": first,
            "exchange": exchange,
            "routing_key": key,
            "attempts": 0,
        }
    deaths = headers.get("x-death")
    # The latest comes first; those before it are the delays that the message went through.
    death = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], Mapping) else {}
    keys = death.get("routing-keys")
    exchange, key = origin(death.get("exchange"), keys[0] if isinstance(keys, list) and keys else "")
    reason = _BROKERS.get(str(death.get("reason")), Reason.REJECTED)
    last = _iso(death.get("time"))
    # The count on the message is that of this queue; the one before it is lost, but its end is known.
    ended = {"retries": headers.get("retries")}
    if reason == Reason.DELIVERY_LIMIT:
        ended["x-delivery-count"] = DELIVERY_LIMIT
    return {
        "reason": reason,
        "first": headers.get(FIRST_PUBLISHED) or last,
        "last": last,
        "exchange": exchange,
        "routing_key": key,
        "attempts": attempts(ended),
    }


def _key(queue: str, headers: Mapping[str, Any], body: bytes) -> str:
    # Without the counters, which grow each time that somebody looks.
    lasting = {name: value for name, value in headers.items() if name not in ("x-delivery-count", "x-acquired-count")}
    text = json.dumps(lasting, sort_keys=True, default=str)
    return hashlib.sha256(b"\0".join((queue.encode(), text.encode(), body))).hexdigest()[:32]


def _iso(value: Any) -> str:
    if not isinstance(value, datetime):
        return ""
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
