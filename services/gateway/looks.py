"""One look for all who ask at the same moment."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Looks(Generic[T]):
    """Shares what a look gave with everybody who asks for the same while it is going on, or just afterwards.

    Args:
        fresh: seconds for which an answer is as good as a new one.
    """

    def __init__(self, fresh: float) -> None:
        self._fresh = fresh
        self._looks: dict[Hashable, asyncio.Task[T]] = {}

    async def share(self, key: Hashable, look: Callable[[], Awaitable[T]]) -> T:
        """What `look` gives, or has just given to somebody else; raises what it raises."""
        task = self._looks.get(key)
        if task is None:
            task = self._looks[key] = asyncio.create_task(self._do(look))
            task.add_done_callback(lambda _: self._forget_later(key))
        # Shielded, because others wait for it when this caller goes.
        return await asyncio.shield(task)

    async def _do(self, look: Callable[[], Awaitable[T]]) -> T:
        return await look()

    def _forget_later(self, key: Hashable) -> None:
        asyncio.get_running_loop().call_later(self._fresh, self._looks.pop, key, None)
