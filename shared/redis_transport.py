"""kombu's Redis transport, which outlives any text that somebody puts into a queue's list, and a Redis that forgot all.

kombu takes a text off the list and expects its own form of a message; anything else ends the worker, and is gone.
"""

import base64
import binascii
import socket
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from celery.utils.log import get_logger
from kombu.transport import TRANSPORT_ALIASES, _transport_cache, redis
from kombu.utils.json import dumps, loads

from shared.dead_letters.cause import HEADER, Cause, Reason
from shared.topology import TASKS_EXCHANGE, dead_letter_queue

logger = get_logger(__name__)

_TEXT_OR_NONE = (str, type(None))


def register() -> None:
    """Make `redis://` and `rediss://` of this process mean the transport below."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
        _transport_cache.pop(scheme, None)


def fault(raw: bytes) -> str | None:
    """What keeps `raw` from being a message at all, in words; None where nothing does."""
    try:
        envelope = loads(raw)
    except (ValueError, RecursionError) as error:
        return f"it is no JSON: {error}"
    if not isinstance(envelope, dict):
        return "it is no object"
    properties = envelope.get("properties")
    if not isinstance(properties, dict) or not isinstance(properties.get("delivery_tag"), str):
        return "it has no properties with a delivery_tag"
    delivery = properties.get("delivery_info")
    if not isinstance(delivery, dict) or not all(
        isinstance(delivery.get(one), str) for one in ("exchange", "routing_key")
    ):
        return "it does not say where it was published"
    if not isinstance(properties.get("priority", 0), int):
        return "its priority is no number"
    if not isinstance(envelope.get("headers", {}), dict):
        return "its headers are no object"
    if not all(isinstance(envelope.get(name), _TEXT_OR_NONE) for name in ("content-type", "content-encoding")):
        return "its content-type or content-encoding is no text"
    return _fault_of_body(envelope.get("body"), properties.get("body_encoding"))


def _fault_of_body(body: Any, encoding: Any) -> str | None:
    if not isinstance(body, _TEXT_OR_NONE):
        return "its body is no text"
    if encoding not in (None, "utf-8", "base64"):
        return "its body_encoding is none that is known"
    if body and encoding == "base64":
        try:
            base64.b64decode(body)
        except (binascii.Error, ValueError) as error:
            return f"its body is no base64: {error}"
    return None


class Channel(redis.Channel):
    """kombu's, but what is no message goes to the dead letters before kombu sees it, and no message goes nowhere."""

    def _get_client(self) -> Any:
        channel = self

        class Client(super()._get_client()):  # type: ignore[misc]  # a class that is found at run time
            def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
                reply = super().parse_response(connection, command_name, **options)
                if command_name == "BRPOP" and reply and (what := fault(reply[1])):
                    channel.bury(reply[0].decode().partition(channel.sep)[0], reply[1], what)
                    return None
                return reply

        return Client

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> list[str]:
        found: list[str] = super()._lookup(exchange, routing_key, default)
        if not found and exchange == TASKS_EXCHANGE:
            # Redis has come back without its file, and kombu, which has told it once who takes what, would drop this
            # message and all that follow. No service is asked for here that is not there: see `redis_broker.check`.
            for binding in self.state.exchanges.get(exchange, {}).get("table", ()):
                self._queue_bind(exchange, *binding)
            found = super()._lookup(exchange, routing_key, default)
        return found

    def bury(self, queue: str, raw: bytes, what: str) -> None:
        """Keep `raw`, which was taken off `queue`, as the body of a dead letter."""
        logger.error("What was taken off %r is no message: %s. It begins %r", queue, what, raw[:200])
        nothing = SimpleNamespace(headers={}, delivery_info={"exchange": "", "routing_key": queue})
        cause = Cause(Reason.MALFORMED, what)
        letter = {
            "body": base64.b64encode(raw).decode(),
            "content-type": "application/octet-stream",
            "content-encoding": "binary",
            "headers": {HEADER: cause.header(nothing, host=socket.gethostname())},
            "properties": {
                "body_encoding": "base64",
                "delivery_tag": str(uuid4()),
                "delivery_info": {"exchange": "", "routing_key": dead_letter_queue(queue)},
                "priority": 0,
            },
        }
        with self.conn_or_acquire() as client:
            client.lpush(dead_letter_queue(queue), dumps(letter))


class Transport(redis.Transport):
    """The transport of that channel."""

    Channel = Channel
