"""Wait for a condition, never for a time."""

import time
from collections.abc import Callable

#: Seconds after which a condition will not come true any more.
PATIENCE = 30.0


def eventually(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Return as soon as `condition` holds; fail when it does not within `patience` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"{condition} did not come true in {patience:g} s"
        time.sleep(0.01)
