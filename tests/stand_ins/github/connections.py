"""Open connections: how to reset one, and how to be rid of all of them at once."""

import socket
import struct
from threading import Condition

LINGER_ZERO = struct.pack("ii", 1, 0)
LAST_WORDS = 2.0  # seconds for handlers to end once their connection is gone


def reset_on_close(connection: socket.socket) -> None:
    """Let the coming close say RST, where it would say FIN: with no time to linger, what is unsent is dropped."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)


def resets_on_close(connection: socket.socket) -> bool:
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(LINGER_ZERO)) == LINGER_ZERO


class Connections:
    """Those that are open. A server that ends must not wait for clients that keep theirs alive."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._open: set[socket.socket] = set()

    def add(self, connection: socket.socket) -> None:
        with self._changed:
            self._open.add(connection)

    def discard(self, connection: socket.socket) -> None:
        with self._changed:
            self._open.discard(connection)
            self._changed.notify_all()

    def shut(self) -> None:
        """End every read and write, and wait until the handlers have noticed."""
        with self._changed:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client was faster
            self._changed.wait_for(lambda: not self._open, timeout=LAST_WORDS)
