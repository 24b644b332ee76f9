"""The result store, asked without ever making a caller wait for long."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from redis.exceptions import RedisError

from shared.errors import Error
from shared.results import submitted

T = TypeVar("T")

#: Seconds that an answer may take. A healthy store takes one or two thousandths.
ANSWER_TIMEOUT = 1.0
#: Questions at once. Each takes a thread; those that a silent store holds up must not be without number.
THREADS = 8


class ResultsAway(Error):
    """The result store does not answer."""


class Results:
    """What is known of tasks.

    Args:
        backend: of a Celery app.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._threads = ThreadPoolExecutor(THREADS, "results")

    async def read(self, task_id: str) -> dict[str, Any] | None:
        """What is stored of a task; None where nothing is. Raises ResultsAway."""
        return await self._ask(ANSWER_TIMEOUT, submitted.read, self._backend, task_id)

    async def submitted(self, task_id: str, timeout: float) -> None:
        """Remember that a task was handed in. Raises ResultsAway."""
        await self._ask(timeout, self._backend.store_submitted, task_id)

    async def withdraw(self, task_id: str, timeout: float) -> None:
        """Forget that a task was handed in. Raises ResultsAway."""
        await self._ask(timeout, self._backend.withdraw_submitted, task_id)

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, timeout: float, question: Callable[..., T], *arguments: Any) -> T:
        asked = asyncio.get_running_loop().run_in_executor(self._threads, question, *arguments)
        try:
            # The client's own timeouts are as short, but a look-up of its host's name has none.
            return await asyncio.wait_for(asked, timeout)
        except (RedisError, sqlite3.OperationalError, OSError) as error:
            raise ResultsAway(f"the result store does not answer: {error}") from error
