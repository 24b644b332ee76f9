"""The work that processes have had: seconds of a core."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.peers.servers import docker

_TICKS = os.sysconf("SC_CLK_TCK")


def seconds(processes: Iterable[int]) -> float:
    """Of all of these, and of what they had started that has ended."""
    return sum(_ticks(pid) for pid in processes) / _TICKS


def of_container(name: str) -> Iterator[int]:
    """The processes of a container, by their numbers here."""
    lines = docker("top", name, "-eo", "pid").split()
    return (int(pid) for pid in lines[1:])


def of_session(leader: int) -> Iterator[int]:
    """A process that began a session, and all that it has started."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(path.name)) == leader:
                yield int(path.name)
        except ProcessLookupError:
            continue


def _ticks(pid: int) -> int:
    try:
        # Behind the name, which may have spaces and brackets: utime, stime, cutime and cstime. Source: proc(5).
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0
    return sum(int(one) for one in told[11:15])
