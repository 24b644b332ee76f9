"""A TCP proxy that is told how bad the way to the broker is."""

import socket
import threading
import time
from contextlib import suppress

#: Bytes at once.
CHUNK = 65536


class Between:
    """Listens on loopback, and passes on what it gets.

    Attributes:
        rate: bytes a second from the publisher to the broker; None for all that there are.
        silent_after: pieces of the broker's answers after which the others are kept here; None for no such number.
        speaks_after: bytes more from the publisher, over any connection, after which all answers pass again.
        connections: how many there were.
    """

    def __init__(self, broker: tuple[str, int], port: int = 0) -> None:
        self.rate: float | None = None
        self.silent_after: int | None = None
        self.speaks_after: int | None = None
        self._broker = broker
        self._answers: list[threading.Event] = []
        self._new_are_silent = False
        self._listener = socket.create_server(("127.0.0.1", port))
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def connections(self) -> int:
        return len(self._answers)

    @property
    def address(self) -> str:
        """Host and port, as in a URL."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def silence(self, new: bool = True) -> None:
        """Keep the broker's answers here, those over `new` connections too."""
        self._new_are_silent = new
        for one in self._answers:
            one.clear()

    def speak(self) -> None:
        """Let all answers through."""
        self._new_are_silent = False
        for one in self._answers:
            one.set()

    def cut_after(self, seconds: float) -> None:
        """Break, in so many seconds, the connections that there are now. Answers that were kept here get lost."""
        now = [one for one in self._open if one is not self._listener]

        def cut() -> None:
            for one in now:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

        threading.Timer(seconds, cut).start()

    def close(self) -> None:
        """Break every connection. Answers that were kept here get lost."""
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.speak()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._broker)
                # A small buffer, so that what is not read yet is not written either.
                near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK)
                self._open += [near, far]
                answers = threading.Event()
                if not self._new_are_silent:
                    answers.set()
                self._answers.append(answers)
                threading.Thread(target=self._pass, args=(near, far, None), daemon=True).start()
                threading.Thread(target=self._pass, args=(far, near, answers), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, answers: threading.Event | None) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                if answers is not None:
                    if self.silent_after is not None:
                        self.silent_after -= 1
                        if self.silent_after < 0:
                            self.silent_after = None
                            answers.clear()
                    answers.wait()
                target.sendall(chunk)
                if answers is None:
                    self._count(len(chunk))
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _count(self, size: int) -> None:
        if self.rate:
            time.sleep(size / self.rate)
        if self.speaks_after is not None:
            self.speaks_after -= size
            if self.speaks_after <= 0:
                self.speaks_after = None
                self.speak()
