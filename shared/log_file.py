"""A file that many processes append whole lines to, that turns over by size, and that nobody waits for."""

import fcntl
import os
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path

#: Seconds between two complaints about one file.
SILENCE = 60.0


class LogFile:
    """Appends to `path`, at any time from any number of processes and threads.

    A write is one call to the system in append mode, so lines of different writers never mix. The file is opened at
    the first write, and again when somebody has moved or removed it. At `size` bytes it becomes `<name>.1`, that
    `<name>.2`, and so on up to `backups`; the oldest is dropped. A lock file beside it lets one process do that.

    What cannot be written is lost, and `append` gives the reason, once a minute: a full disk must not fail a task.

    Attributes:
        path: of the file; its folder is made where it is missing.
        size: bytes at which it turns over; one write more may be in it.
        backups: how many old files are kept.
    """

    def __init__(self, path: Path, size: int, backups: int) -> None:
        self.path, self.size, self.backups = path, size, backups
        self._descriptor: int | None = None
        self._torn = False
        self._complained = float("-inf")
        self._guard = threading.Lock()
        _open_files.add(self)

    def append(self, text: str) -> str | None:
        """Append `text`, which ends its last line itself; gives why it could not, or None."""
        data = text.encode("utf-8", "backslashreplace")
        with self._guard:
            try:
                self._append(data)
            except OSError as error:
                self._close()
                now = time.monotonic()
                if now - self._complained >= SILENCE:
                    self._complained = now
                    return f"{self.path}: {error.strerror}"
        return None

    def close(self) -> None:
        """Give the descriptor back; the next write opens the file again."""
        with self._guard:
            self._close()

    def _append(self, data: bytes) -> None:
        descriptor = self._opened()
        if os.fstat(descriptor).st_size + len(data) > self.size:
            self._turn_over()
            descriptor = self._opened()
        if self._torn:
            # The disk was full in the middle of a line: it ends here, and does not spoil the next one.
            data = b"\n" + data
        written = os.write(descriptor, data)
        self._torn = 0 < written < len(data)
        if written < len(data):
            raise OSError(0, "the disk took a part of a line: is it full?")

    def _opened(self) -> int:
        if self._descriptor is not None and _same(self._descriptor, self.path):
            return self._descriptor
        self._close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(self.path, flags, 0o644)
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, flags, 0o644)
        return self._descriptor

    def _turn_over(self) -> None:
        assert self._descriptor is not None
        lock = os.open(self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # Whoever finds it locked does not wait: the file grows by a line, and is moved under it.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _same(self._descriptor, self.path) and os.fstat(self._descriptor).st_size > 0:
                for number in range(self.backups, 0, -1):
                    with suppress(FileNotFoundError):
                        backup(self.path, number - 1).replace(backup(self.path, number))
                if not self.backups:
                    self.path.unlink()
        except BlockingIOError:
            pass
        finally:
            os.close(lock)

    def _close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with suppress(OSError):
                os.close(descriptor)

    def _after_fork(self) -> None:
        # Another thread of the parent may have held it.
        self._guard = threading.Lock()


def backup(path: Path, number: int) -> Path:
    """The `number`th old file of `path`; 0 is the file itself."""
    return path.with_name(f"{path.name}.{number}") if number else path


def _same(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that stands at `path` now."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


_open_files: "weakref.WeakSet[LogFile]" = weakref.WeakSet()


def _renew_guards() -> None:
    for file in _open_files:
        file._after_fork()


os.register_at_fork(after_in_child=_renew_guards)
