"""One watcher a task, however many read its progress: readers share what it sees.

A reader is never behind by more than one step: it is told the newest state, not each one, so nothing piles up for a
slow one.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from services.gateway.looks import Looks
from services.gateway.results import ResultsAway
from shared.errors import Error
from shared.results.progress import FINAL_STATES

Meta = dict[str, Any]
Read = Callable[[str], Awaitable[Meta | None]]

#: Seconds between two looks at a task, and between those at one that has said nothing for QUIET seconds.
INTERVAL, LONG_INTERVAL, QUIET = 0.25, 1.0, 30.0
#: Seconds for which a look answers everybody who asks without following.
FRESH = 0.2
#: Tasks watched at once, and readers of all of them.
MOST_TASKS, MOST_READERS = 500, 2000


class TooManyReaders(Error):
    """Others must leave first."""


class UnknownTask(Error):
    """Nothing is known of the task, or no longer."""


class Watcher:
    """Looks at one task again and again, until its state is final or it is closed.

    Attributes:
        seen: the newest state, or why there is none just now.
        version: counts what was seen.
        ended: nothing will follow.
    """

    def __init__(self, read: Read, task_id: str) -> None:
        self.seen: Meta | Exception | None = None
        self.version = 0
        self.ended = False
        self.readers = 0
        self._changed = asyncio.Event()
        self._work = asyncio.create_task(self._run(read, task_id), name=f"watch {task_id}")

    async def next(self, version: int, timeout: float) -> bool:
        """Wait until there is something newer than `version`; False where there is not within `timeout` seconds."""
        while self.version == version and not self.ended:
            try:
                await asyncio.wait_for(self._changed.wait(), timeout)
            except TimeoutError:
                return False
        return self.version != version

    async def close(self) -> None:
        """Stop looking, and let the readers go."""
        self._work.cancel()
        with suppress(asyncio.CancelledError):
            await self._work

    async def _run(self, read: Read, task_id: str) -> None:
        unchanged = 0.0
        try:
            while True:
                changed, final = self._note(await _look(read, task_id))
                if final:
                    return
                unchanged = 0.0 if changed else unchanged + INTERVAL
                await asyncio.sleep(INTERVAL if unchanged < QUIET else LONG_INTERVAL)
        except Exception as error:
            self._note(error)  # it breaks the readers' requests, and is reported with them
        finally:
            self.ended = True
            self._tell()

    def _note(self, seen: Meta | Exception) -> tuple[bool, bool]:
        """Keep what was seen; gives whether it is news, and whether it is the last."""
        changed = seen != self.seen if isinstance(seen, dict) else type(seen) is not type(self.seen)
        final = isinstance(seen, UnknownTask) or (isinstance(seen, dict) and seen["status"] in FINAL_STATES)
        if changed:
            self.seen = seen
            self.version += 1
            self.ended = final
            self._tell()
        return changed, final

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Watchers:
    """The watchers of a process.

    Args:
        read: gives what is stored of a task, None for an unknown one; raises ResultsAway.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._watchers: dict[str, Watcher] = {}
        self._looks: Looks[Meta | Exception] = Looks(FRESH)

    @asynccontextmanager
    async def following(self, task_id: str) -> AsyncIterator[Watcher]:
        """The task's watcher, which has seen it once; it goes with its last reader.

        Raises:
            TooManyReaders: the bound is reached.
            UnknownTask: nothing is known of the task.
            ResultsAway: the result store does not answer.
        """
        watcher = self._join(task_id)
        try:
            while watcher.version == 0 and not watcher.ended:
                await watcher.next(0, LONG_INTERVAL)
            if isinstance(watcher.seen, Exception):
                raise watcher.seen
            yield watcher
        finally:
            watcher.readers -= 1
            if watcher.readers == 0:
                if self._watchers.get(task_id) is watcher:
                    del self._watchers[task_id]
                await watcher.close()

    async def state(self, task_id: str) -> Meta:
        """What is known of a task just now. Who asks at the same time, or a moment later, shares one look.

        Raises:
            UnknownTask: nothing is known of the task.
            ResultsAway: the result store does not answer.
        """
        watcher = self._watchers.get(task_id)
        if watcher is not None and isinstance(watcher.seen, dict):
            return watcher.seen
        seen = await self._looks.share(task_id, lambda: _look(self._read, task_id))
        if isinstance(seen, Exception):
            raise seen
        return seen

    async def close(self) -> None:
        """Let every reader go."""
        for watcher in list(self._watchers.values()):
            await watcher.close()

    def _join(self, task_id: str) -> Watcher:
        watcher = self._watchers.get(task_id)
        readers = sum(one.readers for one in self._watchers.values())
        if readers >= MOST_READERS or (watcher is None and len(self._watchers) >= MOST_TASKS):
            raise TooManyReaders(f"{readers} readers follow {len(self._watchers)} tasks, which is the most")
        if watcher is None or watcher.ended:
            watcher = self._watchers[task_id] = Watcher(self._read, task_id)
        watcher.readers += 1
        return watcher


async def _look(read: Read, task_id: str) -> Meta | Exception:
    try:
        return await read(task_id) or UnknownTask(f"nothing is known of the task {task_id}")
    except ResultsAway as error:
        return error
