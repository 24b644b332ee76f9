"""The way out of a program for its reports: one sender a process, whatever forks."""

import atexit
import os
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

from shared.config import Settings
from shared.error_mail.publisher import Publisher
from shared.error_mail.sender import Sender
from shared.error_mail.spool import Spool

#: Reports in memory, and bytes on disk, while no broker takes them.
QUEUE_SIZE = 1000
SPOOL_LIMIT = 10 * 2**20
#: Seconds that the end of a program waits for the broker.
CLOSE_TIMEOUT = 2.0


class Outlet:
    """Takes reports in any process and thread, without waiting.

    Args:
        settings: where the broker is; from the environment unless given.
        spool: the folder; unless given, a hidden one below `LOCAL_DIR` or, where that cannot be, the user's own one
            below the system's temporary folder.

    Raises:
        ConfigError: a setting is wrong.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        spool: str | Path | None = None,
        queue_size: int = QUEUE_SIZE,
        spool_limit: int = SPOOL_LIMIT,
    ) -> None:
        self._settings = settings or Settings.load()
        self._spool = Spool(Path(spool) if spool else _folder(self._settings), spool_limit)
        self._queue_size = queue_size
        self._lock = threading.Lock()
        self._sender: Sender | None = None
        self._dropped = 0
        os.register_at_fork(after_in_child=self._in_child)

    @property
    def dropped(self) -> int:
        """Reports of this process that could be kept nowhere."""
        return self._dropped + (self._sender.dropped if self._sender is not None else 0)

    def put(self, arguments: dict[str, Any]) -> None:
        """Hand over the arguments of `mailer.report_error`."""
        self._current().put(arguments)

    def is_own_thread(self) -> bool:
        """Whether the caller is the thread that publishes: what it logs must not be mailed."""
        return self._sender is not None and self._sender.is_me()

    def close(self) -> None:
        """Publish or spool what waits."""
        with self._lock:
            sender, self._sender = self._sender, None
        if sender is not None:
            sender.close(CLOSE_TIMEOUT)
            self._dropped += sender.dropped

    def _current(self) -> Sender:
        with self._lock:
            if self._sender is None:
                # At the first report: a server forks after it has configured its logging, and threads do not follow.
                self._sender = Sender(lambda: Publisher(self._settings), self._spool, self._queue_size)
            return self._sender

    def _in_child(self) -> None:
        # The parent's lock may be held, its thread is not here, and its connection is its own.
        self._lock = threading.Lock()
        self._sender = None
        self._dropped = 0


@cache
def default() -> Outlet:
    """The outlet of handlers that have no settings of their own."""
    outlet = Outlet()
    atexit.register(outlet.close)
    return outlet


def _folder(settings: Settings) -> Path:
    folder = settings.local_dir.absolute()
    if os.access(folder if folder.exists() else folder.parent, os.W_OK):
        return folder / "error-spool"
    return Path(tempfile.gettempdir()) / f"error-spool-{os.geteuid()}"
