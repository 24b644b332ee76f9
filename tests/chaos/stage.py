"""Where a case is played: the cluster, the ledger, publishers, and what is done to them."""

import json
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.broker import Broker
from tests.chaos.inside.client import Ledger
from tests.chaos.oracle import Evidence, Fault, Publish, Verdict, judge, read_journals
from tests.e2e.houses import ROOT, ComposeHouse

INSIDE = ROOT / "tests/chaos/inside"
#: Seconds without a change, on top of the longest task, after which nothing more is to come.
SETTLED = 0.5
#: The same where the broker's own counts matter: it renews those of quorum queues every 5 s.
STALE = 7.0


class TooLate(AssertionError):
    """A case did not end within its bound."""


@dataclass(frozen=True)
class Scale:
    """How large a case is.

    Attributes:
        tasks: how many are published.
        times: how often the fault strikes.
        down: seconds that it lasts.
        work: the shortest and the longest task, in seconds.
        rate: tasks a second; 0 is as fast as they are confirmed.
        bound: seconds that the whole case may take.
    """

    tasks: int
    times: int = 1
    down: float = 0.0
    work: tuple[float, float] = (0.0, 0.0)
    rate: float = 0.0
    bound: float = 60.0


@dataclass
class Publishers:
    """Programs that publish, each a container of its own."""

    processes: list["subprocess.Popen[bytes]"]
    folder: Path

    def stop(self) -> None:
        """Have each stop after the publish in hand."""
        (self.folder / "stop").touch()

    def running(self) -> bool:
        """Whether one is still at it."""
        return any(process.poll() is None for process in self.processes)


@dataclass
class Stage:
    """One playing of one case.

    Attributes:
        house: the cluster.
        broker: of that cluster, for one who may do everything.
        ledger: the oracle's.
        scale: how large.
        chance: all that is random comes from here, and so from the seed.
        folder: for the journals.
        without: guards that are taken away, split by commas.
    """

    house: ComposeHouse
    broker: Broker
    ledger: Ledger
    scale: Scale
    chance: random.Random
    folder: Path
    without: str = ""
    faults: list[Fault] = field(default_factory=list)
    guilty: set[str] = field(default_factory=set)
    _publishers: list[Publishers] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.deadline = time.monotonic() + self.scale.bound

    # --- publishing

    def publish(
        self, count: int | None = None, *, prefix: str = "task", processes: int = 1, **order: Any
    ) -> Publishers:
        """Start programs that publish `count` tasks together, of the scale unless something else is said."""
        count = self.scale.tasks if count is None else count
        folder = self.folder / prefix
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
        order = {"work": self.scale.work, "rate": self.scale.rate / processes, **order}
        started = []
        for number in range(processes):
            share = count // processes + (number < count % processes)
            mine = {
                "journal": f"/journal/{number}.jsonl",
                "prefix": f"{prefix}{number}",
                "count": share,
                "seed": self.chance.randrange(2**31),
                **order,
            }
            started.append(self._run_publisher(folder, mine))
        made = Publishers(started, folder)
        self._publishers.append(made)
        return made

    def _run_publisher(self, folder: Path, order: dict[str, Any]) -> "subprocess.Popen[bytes]":
        command = ["docker", "compose", "run", "--rm", "-T", "--no-deps"]
        command += ["-v", f"{folder}:/journal", "-v", f"{INSIDE / 'publish.py'}:/publish.py:ro"]
        command += ["-e", f"CHAOS_WITHOUT={self.without}", "-e", "PYTHONPATH=/app"]
        for name, value in order.pop("environ", {}).items():
            command += ["-e", f"{name}={value}"]
        command += ["--entrypoint", "python", "cli", "/publish.py", json.dumps(order)]
        log = (folder / f"{order['prefix']}.log").open("wb")
        with log:
            return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def journal(self) -> list[Publish]:
        """Every outcome until now."""
        return read_journals(self.folder.glob("*/*.jsonl"))

    # --- waiting

    def until(self, what: str, happened: Callable[[], object], every: float = 0.1) -> None:
        """Wait for a condition, for as long as the case may take.

        Raises:
            TooLate: it did not come to be.
        """
        while not happened():
            if time.monotonic() > self.deadline:
                raise TooLate(f"not within the {self.scale.bound:g} s of the case: {what}")
            time.sleep(every)

    def pause(self, seconds: float) -> None:
        """Let a fault last, or time pass between two of them."""
        time.sleep(min(seconds, max(0.0, self.deadline - time.monotonic())))

    def counts(self) -> dict[str, int]:
        """How many attempts, effects and repelled effects the ledger has."""
        return dict(self.ledger.ask("count"))

    def published(self) -> None:
        """Wait until every publisher has ended.

        Raises:
            AssertionError: one of them ended of an error that is not the broker's.
        """
        self.until("the publishers are done", lambda: not any(one.running() for one in self._publishers))
        for publishers in self._publishers:
            for process in publishers.processes:
                said = "\n".join(path.read_text() for path in publishers.folder.glob("*.log"))
                assert process.returncode == 0, said[-2000:]

    def drained(self) -> None:
        """Wait until nothing is left to do: the queues are empty, and nothing has happened for a task's length.

        What is lost would never come. So where something is missing the broker is asked, whose count of messages that
        workers hold is up to five seconds old; else the ledger and the letters are enough.

        Raises:
            TooLate: something is still there at the end of the case's time.
        """
        self.published()
        seen, since = None, time.monotonic()
        while True:
            now = (self.counts(), self.broker.waiting())
            if now != seen:
                seen, since = now, time.monotonic()
            still = time.monotonic() - since - self.scale.work[1]
            if not self.broker.ready(now[1]) and still > SETTLED:
                if not judge(self.evidence(), guilty=self.guilty).kinds() & {"lost"}:
                    return
                if still > STALE and not any(self.broker.depths().values()):
                    return
            if time.monotonic() > self.deadline:
                raise TooLate(f"not drained within the {self.scale.bound:g} s of the case: {now}")
            time.sleep(0.2)

    # --- what is done to the system

    @contextmanager
    def fault(self) -> Iterator[None]:
        """Note when the block began and ended."""
        began = time.time()
        yield
        self.faults.append(Fault(began, time.time()))

    def compose(self, *arguments: str, timeout: float = 120) -> str:
        """Run `docker compose`, which must succeed; gives what it wrote."""
        done = self.house.compose(*arguments, timeout=timeout)
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def docker(self, *arguments: str) -> str:
        """Run `docker`, which must succeed; gives what it wrote."""
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def container(self, service: str) -> str:
        """The id of the one container of `service`."""
        return self.compose("ps", "--all", "--quiet", service).split()[0]

    def inside(self, service: str, script: str) -> str:
        """Run Python in a container; gives what it wrote."""
        return self.compose("exec", "-T", service, "python", "-c", script)

    # --- judging

    def evidence(self) -> Evidence:
        """All that is known from outside, now."""
        attempts, effects, repelled = (
            self.ledger.ask("rows", table=name) for name in ("attempts", "effects", "repelled")
        )
        return Evidence(
            journal=self.journal(),
            attempts=[(key, at) for key, at, _ in attempts],
            effects=[(key, at) for key, at, _ in effects],
            repelled=[key for key, _ in repelled],
            letters=self.broker.letters(),
            faults=self.faults,
        )

    def verdict(self) -> Verdict:
        """The judge's."""
        return judge(self.evidence(), guilty=self.guilty)

    def close(self) -> None:
        """End what still publishes."""
        for publishers in self._publishers:
            publishers.stop()
        for publishers in self._publishers:
            for process in publishers.processes:
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.terminate()
