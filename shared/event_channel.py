"""Events on a channel of their own, which nobody confirms, beside the tasks of the same AMQP connection.

Where the broker closes it, because this user may not tell of what it does, events are lost and nobody is disturbed.
"""

import logging
from typing import Any

import amqp
from amqp import spec
from amqp.basic_message import Message

logger = logging.getLogger(__name__)


class EventChannel(amqp.Channel):
    """A channel that stays closed once it was closed."""

    def tell(self, body: bytes, exchange: str, routing_key: str, **properties: Any) -> None:
        """Send an event; nothing where the broker has closed the channel.

        Raises:
            OSError: the connection is gone, or takes nothing.
        """
        if self.is_open:
            properties.setdefault("delivery_mode", 1)
            self._basic_publish(Message(body, **properties), exchange=exchange, routing_key=routing_key)

    def write(self, frames: bytes) -> None:
        """Send an event that is written already. As `tell`."""
        if self.is_open:
            self.connection.transport.write(frames)
            # By which py-amqp knows that it needs no heartbeat.
            self.connection.bytes_sent += 1

    def _on_close(self, reply_code: int, reply_text: str, class_id: int, method_id: int) -> None:
        logger.info("No events of published tasks any more: %s", reply_text)
        self.is_open = False
        self.send_method(spec.Channel.CloseOk)


def event_channel(protocol: Any) -> EventChannel | None:
    """That of py-amqp's connection `protocol`, opened unless it is there; None of another transport's.

    Raises:
        OSError, amqp.AMQPError: the connection is gone.
    """
    if not isinstance(protocol, amqp.Connection):
        return None
    channel: EventChannel | None = getattr(protocol, "event_channel", None)
    if channel is None:
        channel = protocol.event_channel = EventChannel(protocol)
        channel.open()
    return channel
