"""A worker's last service to a message: publish it as a dead letter with its reason, and only then acknowledge it."""

from threading import Lock
from time import monotonic
from typing import Any

from amqp.serialization import dumps
from celery.utils.log import get_logger

from shared.dead_letters.cause import HEADER, Cause, published_headers
from shared.topology import DEAD_EXCHANGE, MAX_MESSAGE_SIZE, dead_letter_queue

logger = get_logger(__name__)

#: Seconds for connecting, and again for the broker's confirmation. The worker's loop waits so long, and does nothing
#: else: no heartbeat is missed, and no message of a neighbour is held up for long.
TIMEOUT = 2.0
#: Seconds in which nothing is tried after an attempt that failed, so that a broker in trouble holds a worker up once,
#: and not once a message.
REST = 10.0
#: Bytes. All headers must fit into one frame, of which RabbitMQ makes 128 KiB; the rest is for the other properties.
LARGEST_HEADERS = 120 * 1024

#: Properties that do not outlive a message's death: RabbitMQ lets nobody publish in another user's name, and a dead
#: letter that expires would be lost.
_MORTAL = frozenset({"application_headers", "expiration", "user_id", "content_type", "content_encoding"})
#: Where kombu carries a message itself, how it did so: the next one is carried anew.
_OF_THE_CARRIER = frozenset({"body_encoding", "delivery_info", "delivery_tag"})


class Burial:
    """Publishes the dead letters of one service, over a connection of its own.

    Of its own, because RabbitMQ stops reading from a connection that publishes while an alarm is on: the consumer's
    acknowledgements must still get through then.
    """

    def __init__(self, app: Any, host: str) -> None:
        self.app = app
        self.host = host
        self._connection: Any = None
        self._channel: Any = None
        self._rest_until = 0.0
        # Greenlets share a worker's loop.
        self._lock = Lock()

    def bury(self, message: Any, cause: Cause) -> bool:
        """Whether the broker has confirmed `message` as a dead letter with `cause`. It may then be acknowledged.

        Where it has not, the message must be rejected: the broker then moves it, without a reason. Never raises.
        """
        if self.app.settings.embedded or monotonic() < self._rest_until:
            return False
        try:
            body, options = _letter(message, cause.header(message, host=self.host))
        except Exception as error:
            # About this message alone: it says what cannot be said again.
            logger.warning("A dead letter goes without its reason (%s): %r", cause.reason, error)
            return False
        with self._lock:
            try:
                self._publish(body, options)
            except Exception as error:
                # Whatever it was, a connection that answers out of step must not confirm the next message.
                self.close()
                self._rest_until = monotonic() + REST
                logger.warning("Dead letters go without their reasons for %g s (%s): %r", REST, cause.reason, error)
                return False
        return True

    def close(self) -> None:
        """Leave the broker. The next burial connects again."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            connection.collect()

    def _publish(self, body: bytes, options: dict[str, Any]) -> None:
        channel = self._open()
        service = self.app.spec.name
        over_redis = self.app.settings.over_redis
        channel.basic_publish(
            channel.prepare_message(body, **options),
            # Redis has no exchange that is there already; the anonymous one leads to the queue that is named.
            exchange="" if over_redis else DEAD_EXCHANGE,
            routing_key=dead_letter_queue(service) if over_redis else service,
            mandatory=True,
            timeout=TIMEOUT,
            confirm_timeout=TIMEOUT,
        )

    def _open(self) -> Any:
        if self._channel is None:
            bounded = {"confirm_publish": True, "read_timeout": TIMEOUT, "write_timeout": TIMEOUT}
            if self.app.settings.over_redis:
                bounded = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
            # Nobody would send its heartbeats between two burials.
            self._connection = self.app.connection_for_write(
                connect_timeout=TIMEOUT, heartbeat=0, transport_options=bounded
            )
            self._connection.connect()
            self._channel = self._connection.channel()
        return self._channel


def _letter(message: Any, noted: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """Body and options of the message that is to be published."""
    headers = {**published_headers(message.headers), HEADER: noted}
    if not message.errors:
        # kombu has unpacked the body.
        headers.pop("compression", None)
    size = len(dumps("F", [headers]))
    if size > LARGEST_HEADERS:
        raise ValueError(f"its headers would take {size} bytes, and a frame holds {LARGEST_HEADERS}")
    encoding = message.content_encoding
    body = message.body.encode(encoding or "utf-8") if isinstance(message.body, str) else message.body
    if len(body) > MAX_MESSAGE_SIZE:
        raise ValueError(f"unpacked it has {len(body)} bytes, and the broker takes {MAX_MESSAGE_SIZE}")
    properties = {name: value for name, value in message.properties.items() if name not in _MORTAL | _OF_THE_CARRIER}
    return body, {
        "headers": headers,
        "content_type": message.content_type,
        "content_encoding": encoding,
        "priority": properties.pop("priority", None),
        "properties": properties,
    }
