"""Server-sent events. Source: WHATWG HTML, "Server-sent events"."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from pydantic import BaseModel

from services.gateway.events import UnknownTask, Watcher

#: Seconds between two signs of life. Proxies close what is silent for a minute, some for half of one.
HEARTBEAT = 15.0
#: Milliseconds after which a reader should come back.
RETRY = 2000
#: Told as the last event's id: a reader that comes back with it has seen everything.
LAST = "final"

_STILL_HERE = ": still here\n\n"


async def stream(watcher: Watcher, show: Callable[[dict[str, Any]], BaseModel]) -> AsyncIterator[str]:
    """Every state that the watcher sees, until the last.

    Events are called `state`; `unavailable` while the result store does not answer; `gone` when it has forgotten the
    task. The data of a `state` is what `show` gives, as JSON.
    """
    yield f"retry: {RETRY}\n\n"
    version = 0
    while True:
        if await watcher.next(version, HEARTBEAT):
            version = watcher.version
            yield _event(watcher, show)
        elif watcher.ended:
            return
        else:
            yield _STILL_HERE


def _event(watcher: Watcher, show: Callable[[dict[str, Any]], BaseModel]) -> str:
    seen = watcher.seen
    if isinstance(seen, dict):
        last = f"id: {LAST}\n" if watcher.ended else ""
        return f"event: state\n{last}data: {show(seen).model_dump_json()}\n\n"
    name = "gone" if isinstance(seen, UnknownTask) else "unavailable"
    return f"event: {name}\ndata: {{}}\n\n"
