"""What is put off in Celery's event loop comes in its next round, and not when something else happens."""

import socket
import time
from typing import Any

from kombu.asynchronous import Hub

from shared.amqp_transport import AmqpConnection, _Reader
from shared.loop import call_soon

#: kombu waits a second where it has nothing to do.
TURNS = 12


def test_what_a_callback_puts_off_is_done_at_once() -> None:
    # Given a loop that watches a socket on which nothing happens
    hub, (one, other) = Hub(), socket.socketpair()
    with one, other:
        hub.add_reader(one, lambda: None)
        turns: list[float] = []

        def turn() -> None:
            turns.append(time.monotonic())
            if len(turns) < TURNS:
                call_soon(hub, turn)

        # When a callback puts off its rest, again and again
        call_soon(hub, turn)
        loop = hub.create_loop()
        while len(turns) < TURNS:
            next(loop)
        # Then none of them has waited
        assert turns[-1] - turns[0] < 5
        hub.close()


def test_frames_that_have_left_the_socket_are_not_left_lying(monkeypatch: Any) -> None:
    # Given a connection whose frames are all here, and whose handling takes more than a turn each
    monkeypatch.setattr("shared.amqp_transport.TURN", -1.0)
    hub, (one, other) = Hub(), socket.socketpair()
    with one, other:
        connection = AmqpConnection("localhost:1")
        connection._transport = transport = connection.Transport("localhost:1", 1)
        transport.sock, transport.connected, transport._quick_recv = one, True, one.recv
        one.setblocking(False)
        handled: list[float] = []

        class Handler:
            #: Frames come one by one.
            begun = True

            def __call__(self, frame: Any) -> bool:
                handled.append(time.monotonic())
                return True

        connection._on_inbound_frame = handle = Handler()
        monkeypatch.setattr(connection, "blocking_read", lambda timeout: handle(transport.read_frame()))
        reader = _Reader(connection, hub)
        hub.add_reader(one, reader)
        other.sendall(b"\x01\x00\x01\x00\x00\x00\x01x\xce" * 2 * TURNS)
        # When they are handled
        loop = hub.create_loop()
        while len(handled) < 2 * TURNS:
            next(loop)
        # Then none has waited for more to come
        assert handled[-1] - handled[0] < 5
        hub.close()
        transport.sock = None
