"""kombu's filesystem transport, made safe between processes.

kombu's own lets a reader take a message's file while it is still being written, and drops what it then cannot read.
"""

import os
import uuid
from contextlib import suppress
from pathlib import Path
from queue import Empty
from time import time_ns
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps, loads

#: The URL scheme that the transport answers to.
SCHEME = "embedded"
#: Seconds that a consumer waits for a message before it looks at anything else.
LONGEST_WAIT = 0.3


class Channel(filesystem.Channel):
    """A message appears, and is taken, by one atomic rename."""

    def _queue_bind(self, exchange: str, *binding: Any) -> None:
        # kombu's own empties the table of bindings that another process makes at the same moment.
        table: Path = self._exchange_file(exchange)
        if not table.exists():
            empty = table.with_name(f".{uuid.uuid4()}")
            empty.write_text("[]")
            with suppress(FileExistsError):
                table.hardlink_to(empty)
            empty.unlink()
        super()._queue_bind(exchange, *binding)

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:
        folder = Path(self.data_folder_out)
        # Wall time orders messages of different processes; kombu's monotonic clock restarts with the machine.
        name = f"{time_ns():020d}_{uuid.uuid4()}.{queue}.msg"
        hidden = folder / f".{name}"
        hidden.write_text(dumps(payload))
        hidden.rename(folder / name)

    def _get(self, queue: str) -> Any:
        folder = Path(self.data_folder_in)
        wanted = f".{queue}.msg"
        # By name alone, and not as paths: this runs twenty times a second.
        for name in sorted(entry for entry in os.listdir(folder) if entry.endswith(wanted) and entry[0] != "."):  # noqa: PTH208
            if name.partition(".")[2] != wanted[1:]:
                continue
            taken = folder / f".taken-{uuid.uuid4()}"
            try:
                (folder / name).rename(taken)
            except FileNotFoundError:
                continue  # another consumer was faster
            payload = taken.read_text()
            taken.unlink()
            return loads(payload)
        raise Empty


class Transport(filesystem.Transport):
    """The transport behind `embedded://`."""

    Channel = Channel
    driver_name = SCHEME
    driver_type = SCHEME

    def drain_events(self, connection: Any, timeout: float | None = None) -> Any:
        """As kombu's; a worker's loop, which would wait 2 s, looks soon whether it shall stop."""
        return super().drain_events(connection, timeout=min(timeout or LONGEST_WAIT, LONGEST_WAIT))


def register() -> None:
    """Make `embedded://` a URL that kombu knows."""
    TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"
