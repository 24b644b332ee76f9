"""When a task's message is due. The broker holds it for whole seconds."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any


def whole_seconds(countdown: float | None, eta: datetime | str | None, now: datetime) -> dict[str, Any]:
    """The options of a delay, rounded up to whole seconds: kombu refuses anything less than one."""
    if countdown is not None and countdown > 0:
        return {"countdown": math.ceil(countdown)}
    if eta is None:
        return {}
    wait = seconds(None, eta, now)
    # Celery counts again a moment later: what is just over one second now may be under it then.
    return {"countdown": math.ceil(wait), "eta": None} if 0 < wait < 2 else {}


def seconds(countdown: float | None, eta: datetime | str | None, now: datetime) -> float:
    """How long a message waits from now on; 0 where it does not."""
    if isinstance(eta, str):
        eta = datetime.fromisoformat(eta)
    if eta is None:
        return max(countdown or 0.0, 0.0)
    return ((eta if eta.tzinfo else eta.replace(tzinfo=now.tzinfo)) - now).total_seconds()


def due(options: Mapping[str, Any], now: datetime) -> datetime:
    """From when on a message with these options may be taken."""
    countdown, eta = options.get("countdown"), options.get("eta")
    if countdown is not None:
        return now + timedelta(seconds=countdown)
    if isinstance(eta, str):
        eta = datetime.fromisoformat(eta)
    if eta is None:
        return now
    return max(now, eta if eta.tzinfo else eta.replace(tzinfo=now.tzinfo))
