"""Why a message became a dead letter, and the header that says so."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from shared.topology import DELAY_BITS, DELAY_DELIVERY_EXCHANGE, TASKS_EXCHANGE

#: The one header that a worker adds to a dead letter; its value is a table.
HEADER = "dead-letter"
#: Set by a publisher of ours, and carried from attempt to attempt: when the task was asked for first, ISO 8601.
FIRST_PUBLISHED = "first_published"
#: Set by a publisher of ours for each attempt: when it was published, or when its delay ends. ISO 8601.
DUE = "due"
#: How often an operator has replayed the message.
REPLAYS = "replays"

#: What a broker, or the worker that counts in its place, notes on a delivery: not the next message's.
OF_ONE_DELIVERY = frozenset({"redelivered", "compression", "x-delivery-count", "x-acquired-count"})

#: Characters. Headers travel in one AMQP frame (128 KiB by default), together with those that the publisher set.
LONGEST_EXCEPTION = 2_000
LONGEST_TRACEBACK = 8_000

#: What the broker notes on a message's way, and what would send copies of a dead letter to other queues. RabbitMQ takes
#: the latter away too when it buries a message itself.
_OF_THE_WAY = frozenset({"cc", "bcc", "redelivered"})
_BROKERS_PREFIX = "x-"


class Reason(StrEnum):
    """The reasons that there are; see docs/guarantees.md."""

    FAILURE = "failure"
    RETRIES_EXHAUSTED = "retries_exhausted"
    SOFT_TIMEOUT = "soft_timeout"
    TIMEOUT = "timeout"
    DELIVERY_LIMIT = "delivery_limit"
    INVALID_ARGUMENTS = "invalid_arguments"
    UNKNOWN_TASK = "unknown_task"
    MALFORMED = "malformed"
    REVOKED = "revoked"
    EXPIRED = "expired"
    REJECTED = "rejected"
    UNROUTED = "unrouted"


@dataclass(frozen=True)
class Cause:
    """Why a worker gives a message up.

    Attributes:
        reason: its kind.
        exception: class and text, in one line; empty where nothing was raised.
        traceback: as Python prints it; empty where no code of the task ran.
    """

    reason: Reason
    exception: str = ""
    traceback: str = ""

    @classmethod
    def of(cls, reason: Reason, error: BaseException, traceback: str = "") -> "Cause":
        """A cause that `error` names."""
        kind = type(error)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        try:
            text = f"{name}: {error}"
        except Exception:  # an exception whose text cannot be made is a reason all the same
            text = name
        return cls(reason, text, traceback)

    def header(self, message: Any, *, host: str, now: datetime | None = None) -> dict[str, Any]:
        """The value of HEADER for `message`, as it was delivered to `host`. Times are ISO 8601 in UTC."""
        headers = message.headers if isinstance(message.headers, Mapping) else {}
        last = (now or datetime.now(UTC)).isoformat()
        first = headers.get(FIRST_PUBLISHED)
        exchange, key = origin(message.delivery_info.get("exchange"), message.delivery_info.get("routing_key"))
        return {
            "reason": str(self.reason),
            "exception": self.exception[:LONGEST_EXCEPTION],
            # Its end tells most.
            "traceback": self.traceback[-LONGEST_TRACEBACK:],
            "attempts": attempts(headers),
            "host": host,
            "first": first if isinstance(first, str) else last,
            "last": last,
            "exchange": exchange,
            "routing_key": key,
        }


def attempts(headers: Mapping[str, Any]) -> int:
    """How often a task was begun: its retries, and how often the last of them was delivered."""
    counts = (headers.get("retries"), headers.get("x-delivery-count"))
    return 1 + sum(count for count in counts if isinstance(count, int))


def origin(exchange: Any, routing_key: Any) -> tuple[str, str]:
    """Exchange and routing key that a publisher named, also where a delay brought the message."""
    exchange, key = str(exchange or ""), str(routing_key or "")
    if exchange == DELAY_DELIVERY_EXCHANGE:
        # A word a bit of the delay stands in front.
        return TASKS_EXCHANGE, key.split(".", DELAY_BITS)[-1]
    return exchange, key


def published_headers(headers: Any) -> dict[str, Any]:
    """`headers` as the publisher set them, without what was noted on the way, and without the way's end."""
    return {
        name: value
        for name, value in (headers.items() if isinstance(headers, Mapping) else ())
        if name != HEADER and name.lower() not in _OF_THE_WAY and not name.startswith(_BROKERS_PREFIX)
    }
