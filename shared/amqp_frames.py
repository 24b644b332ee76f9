"""Deliveries out of AMQP frames, by the shortest way; everything else is py-amqp's.

A delivery is three frames: the method, the header with properties and the table of headers, and the body. py-amqp
decodes each by a format of its own, letter by letter. Here what nearly every message has is read in place.

Source: AMQP 0-9-1, 2.3.5 and 4.2, with the table types of RabbitMQ's errata.
"""

from collections.abc import Callable
from struct import Struct
from typing import Any

from amqp.basic_message import Message
from amqp.exceptions import RecoverableConnectionError, UnexpectedFrame
from amqp.method_framing import frame_handler as amqps_frame_handler
from amqp.serialization import decode_properties_basic

from shared.amqp_headers import Layout, Layouts, short_text

Frame = tuple[int, int, bytes]

#: Kinds of frames, and how the method of a delivery begins.
METHOD, HEADER, BODY = 1, 2, 3
DELIVER = b"\x00\x3c\x00\x3c"
_U64 = Struct(">Q").unpack_from
_U16 = Struct(">H").unpack_from
#: Content type, content encoding and headers are there.
_FIRST_THREE = 0xE000
#: Expiration, message id, type, user, application, cluster, more flags: where one of them is, py-amqp reads them all.
_SELDOM = 0x01BF
#: What follows the delivery tag, of deliveries that come again and again: redelivered, exchange, routing key.
_ENDINGS_KEPT = 1024


class Delivery(Message):
    """A message as it comes in.

    Attributes:
        layout: of its headers, where they have one.
    """

    __slots__ = ("layout",)

    layout: Layout | None


class FrameHandler:
    """As py-amqp's: called with each frame of `connection`, it says whether something whole came of it.

    Attributes:
        begun: by channel, a delivery of which not everything is here.
    """

    def __init__(self, connection: Any, callback: Callable[..., Any]) -> None:
        self.begun: dict[int, tuple[bytes, Delivery | None]] = {}
        self._connection = connection
        self._generic = amqps_frame_handler(connection, callback)
        self._layouts = Layouts()
        self._endings: dict[bytes, tuple[bool, str, str]] = {}

    def __call__(self, frame: Frame) -> bool:
        """Take the next frame."""
        kind, number, payload = frame
        begun, connection = self.begun, self._connection
        if number not in begun:
            if kind != METHOD or payload[:4] != DELIVER:
                return bool(self._generic(frame))
            begun[number] = payload, None
            connection.bytes_recv += 1
            return False
        connection.bytes_recv += 1
        method, message = begun[number]
        if message is None and kind == HEADER:
            message = _message(payload, self._layouts)
        elif message is not None and kind == BODY:
            message.inbound_body(payload)
        else:
            raise UnexpectedFrame(f"Received frame {kind} in the middle of a delivery")
        if not message.ready:
            begun[number] = method, message
            return False
        del begun[number]
        self._deliver(number, method, message)
        return True

    def deliver(self, number: int, method: bytes, header: bytes, body: bytes) -> None:
        """Take the three frames of a delivery over this channel at once; none may have begun there."""
        self._connection.bytes_recv += 3
        message = _message(header, self._layouts)
        message.body, message.body_received, message.ready = body, len(body), True
        self._deliver(number, method, message)

    def _deliver(self, number: int, method: bytes, message: Delivery) -> None:
        channels = self._connection.channels
        if channels is None:
            raise RecoverableConnectionError("Connection already closed")
        channel = channels[number]
        if not channel.is_closing:
            channel._on_basic_deliver(*_arguments(method, self._endings), message)


def _message(payload: bytes, layouts: Layouts) -> Delivery:
    message = Delivery()
    message.body_size = _U64(payload, 4)[0]
    message.ready = not message.body_size
    try:
        message.properties, message.layout = _properties(payload, layouts)
    except (UnicodeDecodeError, IndexError):
        # py-amqp takes texts that are no texts for bytes; what it cannot read either is its error to raise.
        message.properties, message.layout = decode_properties_basic(payload, 12)[0], None
    return message


def _properties(buf: bytes, layouts: Layouts) -> tuple[dict[str, Any], Layout | None]:
    flags = _U16(buf, 12)[0]
    if flags & _FIRST_THREE != _FIRST_THREE or flags & _SELDOM:
        return decode_properties_basic(buf, 12)[0], None
    kind, at = short_text(buf, 14)
    encoding, at = short_text(buf, at)
    headers, at, layout = layouts.read(buf, at)
    properties: dict[str, Any] = {"content_type": kind, "content_encoding": encoding, "application_headers": headers}
    if flags & 0x1000:
        properties["delivery_mode"] = buf[at]
        at += 1
    if flags & 0x0800:
        properties["priority"] = buf[at]
        at += 1
    if flags & 0x0400:
        end = at + 1 + buf[at]
        properties["correlation_id"] = buf[at + 1 : end].decode()
        at = end
    if flags & 0x0200:
        properties["reply_to"], at = short_text(buf, at)
    if flags & 0x0040:
        properties["timestamp"] = _U64(buf, at)[0]
    return properties, layout


def _arguments(method: bytes, endings: dict[bytes, tuple[bool, str, str]]) -> tuple[str, int, bool, str, str]:
    # Consumer tag, delivery tag, redelivered, exchange, routing key.
    tag, at = short_text(method, 4)
    rest = method[at + 8 :]
    if (ending := endings.get(rest)) is None:
        exchange, end = short_text(rest, 1)
        ending = bool(rest[0] & 1), exchange, short_text(rest, end)[0]
        if len(endings) < _ENDINGS_KEPT:
            endings[rest] = ending
    return tag, _U64(method, at)[0], *ending
