"""A folder for reports that no broker takes: capped, shared by the processes of a program, emptied later."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


class Spool:
    """Keeps JSON objects, oldest first.

    Args:
        folder: made at the first need, readable for its owner alone: reports tell what users did.
        limit: bytes of all files together; what is over it is not kept.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit

    def put(self, item: dict[str, Any]) -> bool:
        """Keep an object; False where the folder is full or cannot be written."""
        data = json.dumps(item).encode()
        # Wall time orders the files of different processes.
        name = f"{time.time_ns():020d}-{os.getpid()}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if sum(path.stat().st_size for path in self._files()) + len(data) > self._limit:
                return False
            part = self._folder / f".{name}.part"
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
            part.rename(self._folder / f"{name}.json")
        except OSError:
            return False
        return True

    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._files()

    def drain(self, publish: Callable[[dict[str, Any]], None]) -> int:
        """Give each object to `publish` and forget it; gives how many were lost, because nobody could read them.

        What `publish` raises ends it, but for a ValueError: then the object itself is at fault. One process at a time
        does this; for the others it is done.
        """
        lost = 0
        with self._alone() as alone:
            for path in self._files() if alone else []:
                try:
                    publish(json.loads(path.read_bytes()))
                except FileNotFoundError:
                    continue
                except (ValueError, KeyError, TypeError):
                    lost += 1
                path.unlink(missing_ok=True)
        return lost

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.json"))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        # A lock of the system's: it ends with the process that holds it.
        with (self._folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
