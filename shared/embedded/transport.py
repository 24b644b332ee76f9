"""kombu's filesystem transport, made safe between processes.

kombu's own lets a reader take a message's file while it is still being written, and drops what it then cannot read.
"""

import os
import uuid
from pathlib import Path
from queue import Empty
from time import time_ns
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps, loads

#: The URL scheme that the transport answers to.
SCHEME = "embedded"


class Channel(filesystem.Channel):  # type: ignore[misc]  # kombu's transports have no types
    """A message appears, and is taken, by one atomic rename."""

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
        for name in sorted(entry for entry in os.listdir(folder) if entry.endswith(wanted) and entry[0] != "."):
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


class Transport(filesystem.Transport):  # type: ignore[misc]  # kombu's transports have no types
    """The transport behind `embedded://`."""

    Channel = Channel
    driver_name = SCHEME
    driver_type = SCHEME


def register() -> None:
    """Make `embedded://` a URL that kombu knows."""
    TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"
