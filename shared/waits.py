"""How long a message waited for a free process."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.dead_letters.cause import DUE


def waited(headers: Mapping[str, Any], properties: Mapping[str, Any], started: float) -> float | None:
    """Seconds that a message waited; None where nobody knows, or where it was delivered before."""
    if headers.get("x-delivery-count"):
        return None
    try:
        due = datetime.fromisoformat(headers[DUE]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        # Another program's message; RabbitMQ's own property counts whole seconds.
        due = properties.get("timestamp")  # type: ignore[assignment]
        if type(due) is not int:
            return None
    # The clock of the publisher's machine may be ahead of ours.
    return max(0.0, started - due)
