"""kombu's AMQP transport, with a read path that asks the socket for large pieces.

py-amqp calls `recv` three times a frame, so nine times a message, and kombu goes back to the event loop after each
message. Here one `recv` takes what is there, up to `PIECE` bytes, and every whole frame in it is handled before the
loop gets its turn. Measured by `bench/`; see docs/performance.md.
"""

import errno
import socket
from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from time import monotonic
from typing import Any

from amqp.exceptions import RecoverableConnectionError, UnexpectedFrame
from amqp.transport import SSLTransport, TCPTransport
from kombu.transport import pyamqp

from shared.amqp_frames import BODY, DELIVER, HEADER, METHOD, FrameHandler
from shared.amqp_headers import Layout
from shared.loop import call_soon

#: Bytes that one read of the socket asks for.
PIECE = 256 * 1024
#: Seconds of handling after which the event loop has its turn: heartbeats, remote control, the pool's results.
TURN = 0.05

#: Type, channel and size of the payload, in front of each frame; behind it stands one octet, `END`.
_HEADER = Struct(">BHI").unpack_from
_OVERHEAD = 8
_END = 0xCE
#: The size of the body, 4 octets into the payload of a header frame.
_BODY_SIZE = Struct(">Q").unpack_from
#: Nothing to read now. TLS says so with ENOENT.
_NOTHING_YET = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, errno.ENOENT})


class _InPieces:
    """Gives frames out of one buffer; what was read and not yet given out stays there, whatever is raised."""

    _piece: bytes = b""
    _at: int = 0

    def read_frame(self, unpack: Any = None) -> tuple[int, int, bytes]:
        """The next frame: type, channel, payload.

        Raises:
            TimeoutError: it is not there yet, and the socket's timeout is over.
            OSError: the connection is gone.
            UnexpectedFrame: these are no frames.
        """
        while True:
            frame = self.whole_frame()
            if frame is not None:
                return frame
            self._read_piece()

    def whole_frame(self) -> tuple[int, int, bytes] | None:
        """The next frame where nothing more of it is needed from the socket; None otherwise."""
        piece, at = self._piece, self._at
        have = len(piece) - at
        if have < _OVERHEAD:
            return None
        kind, channel, size = _HEADER(piece, at)
        if have < size + _OVERHEAD:
            return None
        at += 7
        end = at + size
        if piece[end] != _END:
            raise UnexpectedFrame(f"Received frame_end {piece[end]:#04x} while expecting {_END:#04x}")
        self._at = end + 1
        return kind, channel, piece[at:end]

    def whole_delivery(self) -> tuple[int, bytes, bytes, bytes] | None:
        """The next three frames where they are a delivery whose body is one frame: channel, and their payloads.

        None where they are anything else, or not here yet; they can be read one by one then.
        """
        piece, begin = self._piece, self._at + 7
        try:
            if piece[begin : begin + 4] != DELIVER:
                return None
            kind, channel, size = _HEADER(piece, begin - 7)
            end = begin + size
            kind_of_header, channel_of_header, size = _HEADER(piece, end + 1)
            header, end_of_header = end + 8, end + 8 + size
            kind_of_body, channel_of_body, size = _HEADER(piece, end_of_header + 1)
            body, end_of_body = end_of_header + 8, end_of_header + 8 + size
            if (
                not piece[end] == piece[end_of_header] == piece[end_of_body] == _END
                or not channel == channel_of_header == channel_of_body
                or (kind, kind_of_header, kind_of_body) != (METHOD, HEADER, BODY)
                or _BODY_SIZE(piece, header + 4)[0] != size
            ):
                return None
        except (IndexError, StructError):
            return None
        self._at = end_of_body + 1
        return channel, piece[begin:end], piece[header:end_of_header], piece[body:end_of_body]

    def holds_a_frame(self) -> bool:
        """Whether the next `read_frame` needs nothing from the socket."""
        have = len(self._piece) - self._at
        return have >= _OVERHEAD and have >= _HEADER(self._piece, self._at)[2] + _OVERHEAD

    def _read_piece(self) -> None:
        try:
            read = self._quick_recv(PIECE)  # type: ignore[attr-defined]
        except TimeoutError:
            raise
        except OSError as error:
            if error.errno in _NOTHING_YET:
                raise TimeoutError from None
            self.connected = False
            raise
        if not read:
            self.connected = False
            raise OSError("Server unexpectedly closed connection")
        self._piece, self._at = self._piece[self._at :] + read, 0


class _PlainPieces(_InPieces, TCPTransport):
    pass


class _TlsPieces(_InPieces, SSLTransport):
    pass


class Received(pyamqp.Message):
    """As kombu's.

    Attributes:
        layout: of its headers, where they have one; see `shared.amqp_headers`.
    """

    layout: Layout | None
    errors: Any = ()

    def __init__(self, msg: Any, channel: Any = None, **options: Any) -> None:
        properties = msg.properties
        headers = properties.get("application_headers")
        self.layout = getattr(msg, "layout", None)
        if options or not headers or "compression" in headers:
            self.errors = []
            super().__init__(msg, channel=channel, **options)
            return
        self.channel, self.body, self.properties, self.headers = channel, msg.body, properties, headers
        self.delivery_info = told = msg.delivery_info
        self.delivery_tag = told["delivery_tag"]
        self.content_type, self.content_encoding = properties.get("content_type"), properties.get("content_encoding")
        self.accept = self._decoded_cache = None
        self._state = "RECEIVED"


class Channel(pyamqp.Channel):
    """As kombu's, whose messages know the layout of their headers."""

    Message = Received


class AmqpConnection(pyamqp.Connection):
    """An AMQP connection that reads in large pieces."""

    Channel = Channel

    #: Makes the event loop come back for frames that have left the socket; None while it watches no such connection.
    come_back: Callable[[], None] | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"frame_handler": FrameHandler, **options})

    def Transport(
        self,
        host: str,
        connect_timeout: float | None,
        ssl: Any = False,
        read_timeout: float | None = None,
        write_timeout: float | None = None,
        socket_settings: dict[int, Any] | None = None,
        **options: Any,
    ) -> Any:
        """As py-amqp's."""
        kind = _TlsPieces if ssl else _PlainPieces
        return kind(
            host,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            write_timeout=write_timeout,
            socket_settings=socket_settings,
            ssl=ssl,
            **options,
        )

    def drain_events(self, timeout: float | None = None) -> None:
        """As py-amqp's. Frames that came along are not forgotten: the socket will not tell of them again."""
        super().drain_events(timeout)
        if self.come_back is not None and self._transport is not None and self._transport.holds_a_frame():
            self.come_back()


class Transport(pyamqp.Transport):
    """kombu's transport over such connections; `amqps://`, or a `ssl` of its client, makes it one over TLS."""

    Connection = AmqpConnection

    def register_with_event_loop(self, connection: AmqpConnection, loop: Any) -> None:
        """As kombu's."""
        reader = _Reader(connection, loop)
        connection.come_back = reader.come_back
        loop.add_reader(connection.sock, reader)

    def on_readable(self, connection: AmqpConnection, loop: Any) -> None:
        """As kombu's, which some callers use for a single read."""
        _Reader(connection, loop)()


class _Reader:
    """Called by the event loop when there is something to read."""

    def __init__(self, connection: AmqpConnection, loop: Any) -> None:
        self._connection, self._loop = connection, loop
        self._reading = self._called = False

    def __call__(self) -> None:
        self._called = False
        connection = self._connection
        if not connection.connected:
            raise RecoverableConnectionError("Socket was disconnected")
        turn_ends = monotonic() + TURN
        self._reading = True
        try:
            connection.blocking_read(timeout=0)
            transport, handle = connection.transport, connection.on_inbound_frame
            while connection.connected:
                delivery = None if handle.begun else transport.whole_delivery()
                if delivery is not None:
                    handle.deliver(*delivery)
                elif (frame := transport.whole_frame()) is None:
                    break
                elif not handle(frame):
                    continue
                if monotonic() > turn_ends:
                    self._come_back()
                    break
        except TimeoutError:
            return
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINTR):
                return
            raise
        finally:
            self._reading = False

    def come_back(self) -> None:
        """Read on in the loop's next round, where nobody reads now."""
        if not self._reading:
            self._come_back()

    def _come_back(self) -> None:
        if not self._called:
            self._called = True
            call_soon(self._loop, self)


# py-amqp and kombu catch the old name; it must be the same class.
assert socket.timeout is TimeoutError
