"""A task's message as AMQP frames, of which those parts that all messages of a task share are written once.

Celery, kombu and py-amqp write the first message, as they write every other one, with marks in the places of what
differs: the id, the arguments, how these are shown, and the time. The next messages are that one with other values
there.

Source: AMQP 0-9-1, 2.3.5 and 4.2; Celery's message protocol, version 2.
"""

import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from struct import Struct
from typing import Any
from uuid import uuid4

from amqp.basic_message import Message
from amqp.serialization import dumps as amqp_dumps
from celery.utils.saferepr import saferepr
from kombu import Producer
from kombu.utils.json import JSONEncoder

from shared.publishing import serialized

_METHOD, _HEADER, _BODY = 1, 2, 3
_FRAME = Struct(">BHI").pack
_CONTENT = Struct(">HHQ").pack
_PUBLISH = b"\x00\x3c\x00\x28"
_BASIC = 60
_END = b"\xce"
#: Bytes around the payload of a frame.
OVERHEAD = 8
_U32 = Struct(">I").pack
_U64 = Struct(">Q").pack
#: A long text in a table of headers begins so.
_LONG = b"S"
#: Bytes of a task's id: its length is that of a short text.
LONGEST_ID = 255
#: Values that look the same to Celery and to Python, and texts of which that is so.
_SHOWN_ALIKE = frozenset({int, float, bool, type(None)})
_TEXT_ALIKE = re.compile(r"[A-Za-z0-9 _.:,;@/+=-]*").fullmatch

_encode: Callable[[Any], str] = JSONEncoder().encode


class Caught(BaseException):
    """A message that was not sent. It is no error, and nobody in between is to take it for one.

    Attributes:
        body: arguments, keyword arguments, and what follows, before they are written.
        message: as py-amqp would send it.
        exchange, routing_key, mandatory: where it would go.
    """

    def __init__(self, body: Any, message: Message, exchange: str, routing_key: str, mandatory: bool) -> None:
        super().__init__()
        self.body, self.message = body, message
        self.exchange, self.routing_key, self.mandatory = exchange, routing_key, mandatory


class Catcher(Producer):
    """A kombu producer that raises what it was to publish."""

    class connection:
        """What Celery asks of a producer's connection before it publishes."""

        @staticmethod
        def _reraise_as_library_errors() -> AbstractContextManager[None]:
            return nullcontext()

    def __init__(self) -> None:
        super().__init__(None, auto_declare=False)
        self._body: Any = None

    def publish(self, body: Any, **options: Any) -> None:
        """As kombu's.

        Raises:
            Caught: always.
        """
        self._body = body
        written, _ = serialized(body, options)
        super().publish(written, **{**options, "retry": False})

    def _publish(
        self,
        body: Any,
        priority: Any,
        content_type: str,
        content_encoding: str,
        headers: dict[str, Any],
        properties: dict[str, Any],
        routing_key: str,
        mandatory: bool,
        immediate: bool,
        exchange: str,
        *rest: Any,
    ) -> None:
        message = Message(
            body,
            priority=priority,
            content_type=content_type,
            content_encoding=content_encoding,
            application_headers=headers,
            **properties,
        )
        raise Caught(self._body, message, exchange, routing_key, mandatory)


class Marks:
    """What stands in the places of what differs: values that nothing else contains.

    Attributes:
        id, args, kwargs: of the task.
        published: when, in a text.
        timestamp: the same in seconds since the epoch, as AMQP's property.
    """

    def __init__(self) -> None:
        self.id, self.args, self.kwargs, self.published = (str(uuid4()) for _ in range(4))
        self.timestamp = secrets.randbits(63)

    def places(self) -> dict[bytes, int]:
        """Each of them as it is written, and its number among the values of a message."""
        texts = (self.id.encode(), self.args.encode(), self.kwargs.encode(), self.published.encode())
        return {one: number for number, one in enumerate((*texts, _U64(self.timestamp)))}

    def pattern(self) -> re.Pattern[bytes]:
        """Finds each of them, a text with the length in front that AMQP gives it."""
        *texts, timestamp = self.places()
        return re.compile(rb"(?:S\x00\x00\x00)?\$(?:" + b"|".join(texts) + rb")|" + re.escape(timestamp), re.DOTALL)


def frames(
    channel: int, frame_max: int, exchange: str, key: str, mandatory: bool, properties: bytes, body: bytes
) -> bytes | None:
    """A message as frames; None where its properties do not fit into one."""
    method = _PUBLISH + _arguments(exchange, key, mandatory)
    header = _header(channel, properties, len(body), frame_max)
    if header is None:
        return None
    return _frame(_METHOD, channel, method) + header + _bodies(channel, body, frame_max)


class Envelope:
    """The frames of messages that differ by their bodies alone.

    Args:
        properties: those of this one.
    """

    def __init__(self, exchange: str, key: str, properties: Message) -> None:
        self._method = _PUBLISH + _arguments(exchange, key, mandatory=False)
        self._properties = bytes(properties._serialize_properties())

    def frames(self, channel: int, frame_max: int, body: bytes) -> bytes:
        """A message as frames.

        Raises:
            ValueError: its properties do not fit into one.
        """
        header = _header(channel, self._properties, len(body), frame_max)
        if header is None:
            raise ValueError(f"{len(self._properties)} bytes of properties do not fit into a frame of {frame_max}")
        return _frame(_METHOD, channel, self._method) + header + _bodies(channel, body, frame_max)


class Template:
    """The frames of one task's messages, without what differs.

    Args:
        caught: a message that was made with `marks`.
        channel, frame_max: of the connection over which they go.

    Raises:
        ValueError: a mark is part of something larger, so that these messages have to be written one by one.
    """

    def __init__(self, caught: Caught, marks: Marks, channel: int, frame_max: int) -> None:
        self.exchange, self.routing_key = caught.exchange, caught.routing_key
        self.headers: Mapping[str, Any] = caught.message.properties["application_headers"]
        self._publish = _PUBLISH + _arguments(caught.exchange, caught.routing_key, caught.mandatory)
        self._before, table, after = _parts(caught.message._serialize_properties())
        self._table, self._after = _split(table, marks), _split(after, marks)
        # As kombu's JSON writes it, arguments and all.
        self._rest = ", " + _encode(caught.body[2]) + "]"
        self._channel = -1
        self.go_over(channel, frame_max)

    def go_over(self, channel: int, frame_max: int) -> None:
        """From here on the messages go over this channel."""
        if channel != self._channel:
            self._method = _frame(_METHOD, channel, self._publish)
        self._channel, self._most = channel, frame_max

    def body(self, args: Any, kwargs: Any) -> bytes:
        """A message's body.

        Raises:
            TypeError, ValueError: an argument is nothing that JSON carries.
        """
        return f"[{_encode(args)}, {_encode(kwargs)}{self._rest}".encode()

    def frames(
        self, task_id: str, body: bytes, shown: tuple[str, str], published: tuple[str, int] = ("", 0)
    ) -> bytes | None:
        """A message as frames; None where its headers do not fit into one.

        Args:
            body: by `body`.
            shown: the arguments as people see them, by `show`.
            published: when, as a text and in seconds since the epoch, where the template was made with these marks.
        """
        texts = task_id.encode(), shown[0].encode(), shown[1].encode(), published[0].encode()
        if len(texts[0]) > LONGEST_ID:
            return None
        longs = [_LONG + _U32(len(one)) + one for one in texts]
        longs.append(_U64(published[1]))
        table = _fill(self._table, longs, texts)
        after = _fill(self._after, longs, texts)
        properties = b"".join((self._before, _U32(len(table)), table, after))
        header = _header(self._channel, properties, len(body), self._most)
        return header and self._method + header + _bodies(self._channel, body, self._most)


def show(value: Any, most: int, levels: int) -> str:
    """How Celery shows arguments; what is flat and plain in a twentieth of its time."""
    named = type(value) is dict
    if (named or type(value) in (tuple, list)) and all(
        type(one) in _SHOWN_ALIKE or (type(one) is str and _TEXT_ALIKE(one))
        for one in (value.values() if named else value)
    ):
        if named and not all(type(key) is str and _TEXT_ALIKE(key) for key in value):
            return str(saferepr(value, most, maxlevels=levels))
        text = repr(value)
        if len(text) < most // 2:
            return text
    return str(saferepr(value, most, maxlevels=levels))


def _arguments(exchange: str, key: str, mandatory: bool) -> bytes:
    return bytes(amqp_dumps("Bssbb", (0, exchange, key, mandatory, False)))


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return _FRAME(kind, channel, len(payload)) + payload + _END


def _header(channel: int, properties: bytes, size: int, most: int) -> bytes | None:
    if len(properties) + 12 + OVERHEAD > most:
        return None
    return _FRAME(_HEADER, channel, len(properties) + 12) + _CONTENT(_BASIC, 0, size) + properties + _END


def _bodies(channel: int, body: bytes, most: int) -> bytes:
    room = most - OVERHEAD
    if len(body) <= room:
        return _FRAME(_BODY, channel, len(body)) + body + _END if body else b""
    return b"".join(_frame(_BODY, channel, body[at : at + room]) for at in range(0, len(body), room))


def _parts(properties: bytes) -> tuple[bytes, bytes, bytes]:
    """What stands before the table of headers, the table, and what stands behind it."""
    at = 2
    for _ in range(2):  # content type, content encoding
        at += 1 + properties[at]
    begin = at + 4
    end = begin + int.from_bytes(properties[at:begin], "big")
    return properties[:at], properties[begin:end], properties[end:]


#: Bytes, and what follows them: which value, and whether it is none of the short texts; None at the end.
_Piece = tuple[bytes, int | None, bool]


def _split(content: bytes, marks: Marks) -> list[_Piece]:
    places = marks.places()
    pieces: list[_Piece] = []
    at = 0
    for found in marks.pattern().finditer(content):
        value = found[0][-36:]
        pieces.append((content[at : found.start()], places[value], found[0].startswith(_LONG) or value == found[0]))
        at = found.end()
    pieces.append((content[at:], None, False))
    if any(mark in piece[0] for piece in pieces for mark in places):
        raise ValueError("a mark is part of something larger")
    return pieces


def _fill(pieces: list[_Piece], longs: list[bytes], texts: tuple[bytes, ...]) -> bytes:
    filled = []
    for content, place, is_long in pieces:
        filled.append(content)
        if place is not None:
            filled.append(longs[place] if is_long else bytes((len(texts[place]),)) + texts[place])
    return b"".join(filled)
