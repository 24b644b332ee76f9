"""What the processes of a pool have counted: a few files each, in memory, and no more files than processes.

prometheus_client keeps the counts of a process in files that carry its number, which the main process adds up. It
leaves those of processes that are gone, so that a pool whose processes are replaced would fill the folder: here they
are added to one file of those that are gone.
"""

import os
import shutil
import struct
import tempfile
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import Any

from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

#: The number of the process that all who are gone become.
GONE = 0
_PREFIX = "taskhouse-metrics-"


class Files:
    """The folder of one worker. Each public method may be called from any thread of the main process."""

    def __init__(self) -> None:
        root = Path(tempfile.gettempdir())
        self.folder = root / f"{_PREFIX}{os.getpid()}"
        self._owner = os.getpid()
        self._lock = Lock()
        # What an earlier worker left counts no more.
        for left in root.glob(f"{_PREFIX}*"):
            number = left.name.removeprefix(_PREFIX)
            if left == self.folder or (number.isdecimal() and not _is_there(int(number))):
                shutil.rmtree(left, ignore_errors=True)
        self.folder.mkdir(mode=0o700)

    def collect(self) -> Iterable[Any]:
        """The sums, as prometheus_client's registry asks for them."""
        with self._lock:
            self._compact()
            # A process that begins has made its file before there is anything in it.
            files = [str(path) for path in self.folder.glob("*.db") if path.stat().st_size]
            return list(MultiProcessCollector.merge(files))

    def compact(self) -> None:
        """Add up what those have counted that are gone, and remove their files."""
        with self._lock:
            self._compact()

    def remove(self) -> None:
        """The worker ends."""
        if os.getpid() == self._owner:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _compact(self) -> None:
        for path in self.folder.glob("*.db"):
            kind, _, number = path.stem.rpartition("_")
            if int(number) != GONE and not _is_there(int(number)):
                _add(path, path.with_name(f"{kind}_{GONE}.db"), latest=kind.startswith("gauge"))
                path.unlink()


def _add(path: Path, total: Path, *, latest: bool) -> None:
    try:
        counted = list(MmapedDict.read_all_values_from_file(str(path)))
    except (struct.error, RuntimeError, UnicodeDecodeError):
        # It died in the middle of its first line.
        return
    sums = MmapedDict(str(total))
    try:
        for key, value, timestamp, _ in counted:
            before, then = sums.read_value(key)
            if not latest:
                sums.write_value(key, before + value, 0.0)
            elif timestamp >= then:
                sums.write_value(key, value, timestamp)
    finally:
        sums.close()


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
