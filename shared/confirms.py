"""Many messages on their way over one AMQP channel, and what the broker says of each.

The broker counts the messages of a channel and confirms them by number, one or all up to one; what no binding takes it
gives back before it confirms it. Source: RabbitMQ, "Publisher Confirms", "Memory and Disk Alarms".
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import Any

from amqp.basic_message import Message

from shared.event_channel import event_channel
from shared.publishing import bounded, cut_off

#: Bytes. More than the kernel takes at once leaves slowly where the way is slow.
_SLOW = 100 * 2**10
#: Seconds to say goodbye to the channel over which everything was confirmed.
_GOODBYE = 1.0


class Confirms:
    """A channel in confirm mode. What was said comes to the functions that it is made with.

    Args:
        protocol: py-amqp's connection. Nobody else may use it meanwhile.
        confirmed: is given the numbers of messages that the broker has.
        refused: is given those that it refused.
        returned: is given the id and the reason of a task that no queue takes; its confirmation follows.

    Attributes:
        unconfirmed: messages on their way in their order, by the broker's count: the caller's own number, and when they
            were written, by the monotonic clock.
        blocked: since when the broker has an alarm and reads nothing; None while it does.
    """

    def __init__(
        self,
        protocol: Any,
        confirmed: Callable[[list[int]], None],
        refused: Callable[[list[int]], None],
        returned: Callable[[str, str], None],
    ) -> None:
        self.protocol = protocol
        self.unconfirmed: dict[int, tuple[int, float]] = {}
        self.blocked: float | None = None
        self._confirmed, self._refused, self._returned = confirmed, refused, returned
        self._written = 0
        protocol.on_blocked, protocol.on_unblocked = self._on_blocked, self._on_unblocked
        self.channel = protocol.channel()
        # Where the broker closes a channel, py-amqp would open it again, and wait for that without any bound.
        self.channel._do_revive = lambda: None
        self.channel.confirm_select()
        heard = self.channel.events
        heard["basic_ack"].add(self._on_ack)
        heard["basic_nack"].add(self._on_nack)
        heard["basic_return"].add(self._on_return)

    def write(self, frames: Sequence[bytes], numbers: Sequence[int], seconds: float) -> None:
        """Write messages, each with the caller's number.

        Raises:
            OSError: not all of it left within so many seconds. All count as on their way.
        """
        now = time.monotonic()
        for number in numbers:
            self._written += 1
            self.unconfirmed[self._written] = number, now
        content = b"".join(frames)
        slow = seconds if len(content) > _SLOW else None
        with self.protocol.transport.having_timeout(seconds), cut_off(self.protocol, slow) if slow else nullcontext():
            self.protocol.transport.write(content)
        # By which py-amqp knows that it needs no heartbeat.
        self.protocol.bytes_sent += 1

    def read(self, seconds: float) -> None:
        """Hear what the broker has said, or says within so many seconds."""
        drain = self.protocol.drain_events
        with suppress(TimeoutError):
            drain(timeout=seconds)
            while True:
                drain(timeout=0)

    def tell(self, body: str, exchange: str, routing_key: str) -> None:
        """Send an event, which nobody confirms, and which may be lost."""
        if (events := event_channel(self.protocol)) is not None:
            events.tell(body.encode(), exchange, routing_key, content_type="application/json", content_encoding="utf-8")

    def close(self) -> None:
        """Give the channel back."""
        with bounded(self.protocol, _GOODBYE):
            self.channel.close()

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._confirmed(self._taken(tag, multiple))

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self._refused(self._taken(tag, multiple))

    def _taken(self, tag: int, multiple: bool) -> list[int]:
        if not multiple:
            one = self.unconfirmed.pop(tag, None)
            return [] if one is None else [one[0]]
        tags = []
        for known in self.unconfirmed:
            if known > tag:
                break
            tags.append(known)
        return [self.unconfirmed.pop(known)[0] for known in tags]

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: Message) -> None:
        headers = message.properties.get("application_headers") or {}
        self._returned(str(headers.get("id")), f"no queue takes {routing_key!r} of the exchange {exchange!r}")

    def _on_blocked(self, reason: str) -> None:
        self.blocked = time.monotonic()

    def _on_unblocked(self) -> None:
        self.blocked = None
