"""Deliveries out of AMQP frames, by the shortest way; everything else is py-amqp's.

A delivery is three frames: the method, the header with properties and the table of headers, and the body. py-amqp
decodes each by a format of its own, letter by letter. Here what nearly every message has, texts and nothing, is read in
place.

Source: AMQP 0-9-1, 2.3.5 and 4.2, with the table types of RabbitMQ's errata.
"""

from collections.abc import Callable
from struct import Struct
from typing import Any

from amqp.basic_message import Message
from amqp.exceptions import RecoverableConnectionError, UnexpectedFrame
from amqp.method_framing import frame_handler as amqps_frame_handler
from amqp.serialization import _read_item, decode_properties_basic

Frame = tuple[int, int, bytes]

_METHOD, _HEADER, _BODY = 1, 2, 3
_DELIVER = b"\x00\x3c\x00\x3c"
_U64 = Struct(">Q").unpack_from
_U32 = Struct(">I").unpack_from
_U16 = Struct(">H").unpack_from
#: Content type, content encoding and headers are there.
_FIRST_THREE = 0xE000
#: Of names that come again and again: header names, tags, exchanges, routing keys.
_NAMES_KEPT = 4096
_names: dict[bytes, str] = {}


def frame_handler(connection: Any, callback: Callable[..., Any]) -> Callable[[Frame], bool]:
    """As py-amqp's: a function that takes each frame, and says whether something whole came of it."""
    generic = amqps_frame_handler(connection, callback)
    #: By channel: a delivery of which not everything is here.
    begun: dict[int, tuple[bytes, Message | None]] = {}

    def on_frame(frame: Frame) -> bool:
        kind, number, payload = frame
        if number not in begun:
            if kind != _METHOD or payload[:4] != _DELIVER:
                return bool(generic(frame))
            begun[number] = payload, None
            connection.bytes_recv += 1
            return False
        connection.bytes_recv += 1
        method, message = begun[number]
        if message is None and kind == _HEADER:
            message = _message(payload)
        elif message is not None and kind == _BODY:
            message.inbound_body(payload)
        else:
            raise UnexpectedFrame(f"Received frame {kind} in the middle of a delivery")
        if not message.ready:
            begun[number] = method, message
            return False
        del begun[number]
        if connection.channels is None:
            raise RecoverableConnectionError("Connection already closed")
        channel = connection.channels[number]
        if not channel.is_closing:
            channel._on_basic_deliver(*_arguments(method), message)
        return True

    return on_frame


def _message(payload: bytes) -> Message:
    message = Message()
    message.body_size = _U64(payload, 4)[0]
    message.ready = not message.body_size
    try:
        message.properties = _properties(payload)
    except (UnicodeDecodeError, IndexError):
        # py-amqp takes texts that are no texts for bytes; what it cannot read either is its error to raise.
        message.properties = decode_properties_basic(payload, 12)[0]
    return message


def _properties(buf: bytes) -> dict[str, Any]:
    flags = _U16(buf, 12)[0]
    if flags & _FIRST_THREE != _FIRST_THREE or flags & 1:
        return decode_properties_basic(buf, 12)[0]
    kind, at = _short(buf, 14)
    encoding, at = _short(buf, at)
    headers, at = _table(buf, at)
    properties: dict[str, Any] = {"content_type": kind, "content_encoding": encoding, "application_headers": headers}
    if flags & 0x1000:
        properties["delivery_mode"] = buf[at]
        at += 1
    if flags & 0x0800:
        properties["priority"] = buf[at]
        at += 1
    if flags & 0x0400:
        properties["correlation_id"], at = _text(buf, at)
    if flags & 0x0200:
        properties["reply_to"], at = _short(buf, at)
    if flags & 0x0100:
        properties["expiration"], at = _text(buf, at)
    if flags & 0x0080:
        properties["message_id"], at = _text(buf, at)
    if flags & 0x0040:
        properties["timestamp"] = _U64(buf, at)[0]
        at += 8
    if flags & 0x003F:
        # Seldom: read all again, by the book.
        return decode_properties_basic(buf, 12)[0]
    return properties


def _table(buf: bytes, at: int) -> tuple[dict[str, Any], int]:
    at += 4
    end = at + _U32(buf, at - 4)[0]
    table: dict[str, Any] = {}
    names = _names
    while at < end:
        first = at + 1
        at = first + buf[at]
        key = buf[first:at]
        name = names.get(key) or _name(key)
        kind = buf[at]
        if kind == 0x53:  # S: a long text
            first = at + 5
            at = first + _U32(buf, at + 1)[0]
            table[name] = buf[first:at].decode()
        elif kind == 0x56:  # V: nothing
            table[name] = None
            at += 1
        elif kind == 0x74:  # t: true or false
            table[name] = buf[at + 1] != 0
            at += 2
        else:
            table[name], at = _read_item(buf, at)
    return table, at


def _text(buf: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + buf[at]
    return buf[at + 1 : end].decode(), end


def _short(buf: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + buf[at]
    text = buf[at + 1 : end]
    return _names.get(text) or _name(text), end


def _name(text: bytes) -> str:
    name = text.decode()
    if len(_names) < _NAMES_KEPT:
        _names[text] = name
    return name


def _arguments(method: bytes) -> tuple[str, int, bool, str, str]:
    # Consumer tag, delivery tag, redelivered, exchange, routing key.
    tag, at = _short(method, 4)
    exchange, end = _short(method, at + 9)
    return tag, _U64(method, at)[0], bool(method[at + 8] & 1), exchange, _short(method, end)[0]
