"""The cluster with the cases' own tasks in its workers, and guards that come and go."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shared.topology import SERVICES
from tests.chaos.broker import Broker
from tests.chaos.inside.client import Ledger
from tests.chaos.stage import Scale, Stage
from tests.e2e.houses import ComposeHouse

OVERLAY = "tests/chaos/chaos.yaml"
#: A pool that knows the lane, and what puts every task into it.
_IN_LANE = {f"{spec.name.upper()}_POOL": "solo" for spec in SERVICES} | {"CHAOS_INCLUDE": "tests.in_lane.worker"}
#: What workers are started with: guards that are taken away, seconds between two heartbeats, whether in the lane.
Costume = tuple[str, str, bool]
#: Seconds, of every worker (shared/app.py).
HEARTBEAT = 30


@dataclass
class Theatre:
    """A cluster on which cases are played one after another.

    Attributes:
        house: the cluster.
        broker: seen from outside.
        ledger: the oracle's.
    """

    house: ComposeHouse
    broker: Broker
    ledger: Ledger
    _patch: pytest.MonkeyPatch
    _worn: dict[str, Costume] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def opened(cls, house: ComposeHouse) -> Iterator["Theatre"]:
        """Start the ledger; afterwards have everything as it was."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COMPOSE_FILE", f"{os.environ['COMPOSE_FILE']}:{OVERLAY}")
            _run(house, "up", "-d", "--wait", "--no-deps", "ledger")
            address = _run(house, "port", "ledger", "7000").strip()
            broker = Broker(tuple(_nodes(house)), house.passwords()["rabbitmq"])
            theatre = cls(house, broker, Ledger(address), patch)
            try:
                yield theatre
            finally:
                broker.clear()
                _run(house, "--profile", "chaos", "rm", "--force", "--stop", "ledger", "beat-2")
        if theatre._worn:
            _run(house, "up", "-d", "--wait", "--no-deps", *theatre._worn)

    def stage(
        self,
        scale: Scale,
        chance: random.Random,
        folder: Path,
        *,
        services: tuple[str, ...] = ("calculator",),
        without: str = "",
        heartbeat: int | None = None,
        lane: bool = False,
    ) -> Stage:
        """A stage with empty queues and an empty ledger, whose workers have all guards but `without`.

        With `lane` they have each of their tasks in the fast lane.
        """
        self._dress(services, (without, str(heartbeat or ""), lane))
        self.broker.clear()
        self.ledger.ask("clear")
        return Stage(self.house, self.broker, self.ledger, scale, chance, folder, without, heartbeat or HEARTBEAT)

    def taken(self) -> int:
        """Messages that the fast lane has taken in all workers since the first case."""
        worker = next(iter(self._worn))
        count = "cat /task-logs/lane-* 2>/dev/null | wc -c"
        return int(_run(self.house, "run", "--rm", "-T", "--no-deps", "--entrypoint", "sh", worker, "-c", count))

    def _dress(self, services: tuple[str, ...], costume: Costume) -> None:
        changed = [service for service in services if self._worn.get(service) != costume]
        if changed:
            self._patch.setenv("CHAOS_WITHOUT", costume[0])
            self._patch.setenv("CHAOS_HEARTBEAT", costume[1])
            for name, value in _IN_LANE.items():
                self._patch.setenv(name, value if costume[2] else "")
            _run(self.house, "up", "-d", "--wait", "--no-deps", *changed)
            self._worn |= dict.fromkeys(changed, costume)


def _nodes(house: ComposeHouse) -> Iterator[tuple[int, int]]:
    for node in ("RABBITMQ", "RABBITMQ_2", "RABBITMQ_3"):
        if f"{node}_PORT" in house.ports:
            yield house.ports[f"{node}_PORT"], house.ports[f"{node}_MANAGEMENT_PORT"]


def _run(house: ComposeHouse, *arguments: str) -> str:
    done = house.compose(*arguments)
    assert done.returncode == 0, f"docker compose {' '.join(arguments)}: {done.stderr}"
    return done.stdout
