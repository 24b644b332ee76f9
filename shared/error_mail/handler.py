"""The `logging` handler."""

import logging
import socket
import sys
import threading
from pathlib import Path

from shared.config import Settings
from shared.error_mail import report
from shared.error_mail.outlet import QUEUE_SIZE, SPOOL_LIMIT, Outlet


class ErrorMailHandler(logging.Handler):
    """Mails every record that reaches it to the administrators, through the `mailer` service.

    It never raises, never mails what its own publishing logs, and never waits for the broker: a thread of its own
    publishes, and keeps what no broker takes in a folder until one does. What finds no room there is counted in
    `dropped`, and told with the next report.

    Args:
        level: of records to mail.
        source: which program tells; unless given, the name of the program and the host.
        spool: a folder; see `Outlet`.
        queue_size: reports that wait in memory.
        spool_limit: bytes that wait on disk.
        settings: where the broker is; from the environment (`BROKER_URL`, …) unless given.

    Raises:
        ConfigError: a setting is wrong.
    """

    def __init__(
        self,
        level: int | str = logging.ERROR,
        *,
        source: str | None = None,
        spool: str | Path | None = None,
        queue_size: int = QUEUE_SIZE,
        spool_limit: int = SPOOL_LIMIT,
        settings: Settings | None = None,
    ) -> None:
        super().__init__(level)
        self._source = source or f"{Path(sys.argv[0]).stem or 'python'}@{socket.gethostname()}"
        self._outlet = Outlet(settings, spool, queue_size, spool_limit)
        self._building = threading.local()

    @property
    def dropped(self) -> int:
        """Reports of this process that could be kept nowhere."""
        return self._outlet.dropped

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the record over."""
        if self._outlet.is_own_thread() or getattr(self._building, "now", False):
            return
        self._building.now = True
        try:
            self._outlet.put(report.build(record, self._source))
        except Exception:
            self.handleError(record)
        finally:
            self._building.now = False

    def close(self) -> None:
        """Publish or spool what waits; `logging` calls it at the end of the program."""
        self._outlet.close()
        super().close()
