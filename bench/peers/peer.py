"""What a peer is: how its worker is started, and which workloads it has."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

#: Workloads that a worker does as fast as it can, of which a queue is full.
THROUGHPUT = ("nothing", "payload", "sleep", "hash")
#: Workloads that one client sees.
CLIENT = ("publish", "round_trip", "chord")


@dataclass(frozen=True)
class Peer:
    """A system, in one configuration.

    Attributes:
        name: as in the tables.
        module: this file's name, below `bench.peers`; it has `send(workload, count)`, which fills the queue, and of
            `publish(count)`, `call()` and `chord()` those that `can` names.
        worker: what follows `python -m`; `{tasks}` is how many may run at once.
        server: what carries its messages.
        can: workloads; see `THROUGHPUT` and `CLIENT`.
        tasks: how many run at once where the workload does not say.
        environ: what its worker and its publisher find in their environment.
        more: how many times as many tasks that do nothing it is given, so that they last it for seconds too.
        queue: where its messages are; emptied before each measurement.
        note: what its configuration is, in a few words.
    """

    name: str
    module: str
    worker: str
    server: Literal["rabbitmq", "redis"]
    can: tuple[str, ...]
    tasks: int = 1
    more: int = 1
    environ: Mapping[str, str] = field(default_factory=dict)
    queue: str = "bench"
    note: str = ""

    def code(self) -> Any:
        """Its module."""
        return importlib.import_module(f"bench.peers.{self.module}")


def peers() -> list[Peer]:
    """All of them, in the order of the tables."""
    files = sorted(Path(__file__).parent.glob("*_peer.py"))
    found = [one for file in files for one in importlib.import_module(f"bench.peers.{file.stem}").PEERS]
    return sorted(found, key=lambda one: (one.server == "redis", one.module != "our_peer"))
