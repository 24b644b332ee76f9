"""Celery's event loop, kombu's hub."""

from collections.abc import Callable
from typing import Any


def call_soon(hub: Any, callback: Callable[[], object]) -> None:
    """As `hub.call_soon`, from the loop's own callbacks too: what one of those puts off kombu does only after it has
    waited for an event, or for the next timer, which may be a second."""
    hub.call_soon(callback)
    waker = getattr(hub, "_waker", None)
    if waker is not None:
        waker.wake()
