"""Hear of the end before the server waits for it."""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any


def when_told_to_stop(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do `work` in the running event loop when SIGTERM or SIGINT comes, and then what was to be done anyway.

    uvicorn first waits until every answer is given, and calls the app's own end only afterwards: a stream that does
    not end by itself would hold it up. https://github.com/encode/uvicorn/discussions/1515
    """
    if threading.current_thread() is not threading.main_thread():
        return  # signals are the main thread's; whoever serves from another one stops in another way
    loop, begun = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    def begin() -> None:
        task = loop.create_task(work())
        begun.add(task)  # the loop itself does not hold on to it

    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def act(received: int, frame: Any, before: Any = before) -> None:
            loop.call_soon_threadsafe(begin)
            if callable(before):
                before(received, frame)

        signal.signal(number, act)
