"""Wait for what a measurement needs, and for no longer than it may take."""

import time
from collections.abc import Callable
from typing import Any

#: Seconds.
PATIENCE = 300.0


def until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Return when `condition` holds; end the process, naming `what`, when it does not within `patience` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {patience:g} s: {what}")
        time.sleep(0.05)


def waiting(app: Any, queue: str) -> int:
    """How many messages of a queue nobody has taken."""
    with app.connection_for_write() as connection:
        return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
