"""Speaks with the ledger: a JSON line there, a JSON line back. Used by workers and by whoever judges."""

import json
import os
import socket
from typing import Any

TIMEOUT = 30.0


class Ledger:
    """A client of the ledger at `address`, `host:port`. A broken connection is made anew, once a question.

    Args:
        address: where the ledger listens.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.address = host, int(port)
        self._file: Any = None
        self._owner = 0

    def begin(self, key: str, host: str) -> None:
        """An attempt begins."""
        self.ask("begin", key=key, host=host)

    def effect(self, key: str, *, guarded: bool = True) -> bool:
        """The effect, unless its key has had one; gives whether it happened. Unguarded it happens each time."""
        return bool(self.ask("effect", key=key, guarded=guarded))

    def ask(self, what: str, **about: Any) -> Any:
        """One question; gives the ledger's answer."""
        line = json.dumps({"what": what, **about}).encode() + b"\n"
        try:
            return self._exchange(line)
        except OSError:
            self._file = None
            return self._exchange(line)

    def _exchange(self, line: bytes) -> Any:
        if self._file is None or self._owner != os.getpid():
            connection = socket.create_connection(self.address, TIMEOUT)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._file, self._owner = connection.makefile("rwb"), os.getpid()
        self._file.write(line)
        self._file.flush()
        answer = self._file.readline()
        if not answer:
            raise ConnectionError("the ledger closed the connection")
        return json.loads(answer)
