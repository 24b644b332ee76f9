"""What comes out of AMQP's frames is what py-amqp's own reader makes of them, in whatever pieces they come."""

import socket
from collections.abc import Callable
from struct import pack
from types import SimpleNamespace
from typing import Any

import pytest
from amqp import Message
from amqp.exceptions import UnexpectedFrame
from amqp.method_framing import frame_handler as amqps_frame_handler
from amqp.serialization import dumps
from hypothesis import given
from hypothesis import strategies as st

from shared.amqp_frames import FrameHandler
from shared.amqp_transport import _PlainPieces

texts = st.text(st.characters(codec="utf-8"), max_size=20)
keys = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | texts | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
properties = st.fixed_dictionaries(
    {},
    optional={
        "content_type": texts,
        "content_encoding": texts,
        "application_headers": st.dictionaries(keys, values, max_size=6),
        "delivery_mode": st.sampled_from([1, 2]),
        "priority": st.integers(0, 255),
        "correlation_id": texts,
        "reply_to": texts,
        "expiration": texts,
        "message_id": texts,
        "timestamp": st.integers(0, 2**63),
        "type": texts,
        "user_id": texts,
    },
)


def frames(tag: str, number: int, redelivered: bool, exchange: str, key: str, message: Message) -> list[bytes]:
    """One delivery, as a broker sends it; a body in two frames where it can be."""
    method = pack(">HH", 60, 60) + dumps("sLbss", (tag, number, redelivered, exchange, key))
    body = message.body
    header = pack(">HHQ", 60, 0, len(body)) + message._serialize_properties()
    parts = [(1, method), (2, header), *((3, part) for part in (body[:5], body[5:]) if part)]
    return [pack(">BHI", kind, 1, len(payload)) + payload + b"\xce" for kind, payload in parts]


def read(handler: Callable[..., Any], sent: list[bytes]) -> list[Any]:
    """What the channel is given."""
    given: list[Any] = []
    channel = SimpleNamespace(is_closing=False, _on_basic_deliver=lambda *delivery: given.append(delivery))
    connection = SimpleNamespace(bytes_recv=0, channels={1: channel})

    def callback(number: int, method: Any, payload: bytes, content: Any) -> None:
        from amqp.serialization import loads

        channel._on_basic_deliver(*loads("sLbss", payload, 4)[0], content)

    on_frame = handler(connection, callback)
    done = [on_frame((one[0], 1, one[7:-1])) for one in sent]
    assert done[-1] is True and not any(done[:-1])
    assert connection.bytes_recv == len(sent)
    return given


def told(delivery: Any) -> tuple[Any, ...]:
    *arguments, message = delivery
    return (*arguments, message.body, message.properties, message.ready)


@given(texts, st.integers(0, 2**64 - 1), st.booleans(), texts, texts, properties, st.binary(max_size=30))
def test_a_delivery_is_read_as_py_amqp_reads_it(
    tag: str, number: int, redelivered: bool, exchange: str, key: str, said: dict[str, Any], body: bytes
) -> None:
    sent = frames(tag, number, redelivered, exchange, key, Message(body, **said))
    (theirs,), (ours,) = read(amqps_frame_handler, sent), read(FrameHandler, sent)
    # py-amqp leaves an empty body a text.
    assert told(ours)[:5] == told(theirs)[:5]
    assert told(ours)[5:] == told(theirs)[5:]


@pytest.mark.parametrize(
    "table", [b"\x02\xff\xfeS\x00\x00\x00\x01a", b"\x01aS\x00\x00\x00\x02\xff\xfe"], ids=["name", "value"]
)
def test_a_text_that_is_none_is_bytes_as_with_py_amqp(table: bytes) -> None:
    header = pack(">HHQH", 60, 0, 0, 0xE000) + b"\x01x\x01y" + pack(">I", len(table)) + table
    method = pack(">HH", 60, 60) + dumps("sLbss", ("t", 1, False, "e", "k"))
    sent = [pack(">BHI", kind, 1, len(one)) + one + b"\xce" for kind, one in ((1, method), (2, header))]
    (theirs,), (ours,) = read(amqps_frame_handler, sent), read(FrameHandler, sent)
    assert told(ours) == told(theirs)


def holding(content: bytes) -> _PlainPieces:
    """A transport that has read this."""
    transport = _PlainPieces("localhost:1")
    transport._piece = content
    return transport


def at_once(sent: list[bytes]) -> list[Any]:
    """What the channel is given of a delivery that is taken whole; nothing where it is not."""
    given: list[Any] = []
    channel = SimpleNamespace(is_closing=False, _on_basic_deliver=lambda *delivery: given.append(delivery))
    connection = SimpleNamespace(bytes_recv=0, channels={1: channel})
    transport, content = holding(b"".join(sent) + b"more"), b"".join(sent)
    if (delivery := transport.whole_delivery()) is None:
        assert transport._at == 0
        return []
    assert transport._at == len(content)
    FrameHandler(connection, lambda *_: None).deliver(*delivery)
    assert connection.bytes_recv == len(sent)
    return given


@given(texts, st.integers(0, 2**64 - 1), st.booleans(), texts, texts, properties, st.binary(max_size=5))
def test_a_delivery_that_is_there_is_taken_at_once(
    tag: str, number: int, redelivered: bool, exchange: str, key: str, said: dict[str, Any], body: bytes
) -> None:
    sent = frames(tag, number, redelivered, exchange, key, Message(body, **said))
    # Without a body there is no frame of it.
    assert [told(one) for one in at_once(sent)] == [told(one) for one in read(amqps_frame_handler, sent) if body]


def test_what_is_no_whole_delivery_is_read_frame_by_frame() -> None:
    method, header, body = sent = frames("t", 1, False, "e", "k", Message(b"body"))
    assert at_once(sent)
    whole = b"".join(sent)
    for end in range(len(whole)):
        transport = holding(whole[:end])
        assert transport.whole_delivery() is None and transport._at == 0
    longer = frames("t", 1, False, "e", "k", Message(b"more than five"))
    elsewhere = body[:1] + b"\x00\x02" + body[3:]
    acknowledged = method[:7] + pack(">HH", 60, 80) + method[11:]
    for other in (
        longer,
        [method, header, elsewhere],
        [method, body, header],
        [acknowledged, header, body],
        [method, header, header],
    ):
        assert at_once(other) == []
    for broken in range(3):
        parts = list(sent)
        parts[broken] = parts[broken][:-1] + b"x"
        assert at_once(parts) == []


def test_something_else_in_the_middle_of_a_delivery_is_told() -> None:
    first, *_ = frames("t", 1, False, "e", "k", Message(b"x"))
    on_frame = FrameHandler(SimpleNamespace(bytes_recv=0, channels={}), lambda *_: None)
    on_frame((1, 1, first[7:-1]))
    with pytest.raises(UnexpectedFrame, match="in the middle of a delivery"):
        on_frame((3, 1, b"body"))


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5), st.lists(st.integers(1, 60), max_size=12))
def test_frames_come_whole_whatever_pieces_the_network_makes(payloads: list[bytes], cuts: list[int]) -> None:
    # Given frames on a socket, cut anywhere
    stream = b"".join(pack(">BHI", 1, 7, len(one)) + one + b"\xce" for one in payloads)
    transport = _PlainPieces("localhost:1")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        transport._quick_recv, transport.connected = ours.recv, True
        got = []
        for cut in [*cuts, len(stream)]:
            piece, stream = stream[:cut], stream[cut:]
            theirs.sendall(piece)
            # When they are read until there is nothing more to read
            while True:
                try:
                    got.append(transport.read_frame())
                except TimeoutError:
                    break
        # Then each comes out once, whole
        assert got == [(1, 7, one) for one in payloads]
        assert transport.whole_frame() is None and not transport.holds_a_frame()
        # And the end of the connection is told
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError, match="closed connection"):
            transport.read_frame()
        assert not transport.connected


def test_what_is_no_frame_is_told() -> None:
    transport = _PlainPieces("localhost:1")
    transport._quick_recv = lambda size: pack(">BHI", 1, 0, 1) + b"xy"
    with pytest.raises(UnexpectedFrame, match="0x79"):
        transport.read_frame()
