"""Where a case is played: the cluster, the ledger, publishers, and what is done to them."""

import json
import random
import re
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
#: Before the keys of ticks: beat gives them their ids.
TICK = "tick-"
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
        heartbeat: the workers', in seconds.
        faults: what was done to the system until now.
        guilty: keys of tasks that deserve to be dead letters.
        notes: what the case measured besides.
    """

    house: ComposeHouse
    broker: Broker
    ledger: Ledger
    scale: Scale
    chance: random.Random
    folder: Path
    without: str = ""
    heartbeat: int = 30
    faults: list[Fault] = field(default_factory=list)
    guilty: set[str] = field(default_factory=set)
    notes: dict[str, float] = field(default_factory=dict)
    _complaints: list[tuple[str, str]] = field(default_factory=list)
    _publishers: list[Publishers] = field(default_factory=list)
    _own: list[Publish] = field(default_factory=list)

    def __post_init__(self) -> None:
        #: Before each key: what an earlier case left behind is none of this one's.
        self.run = f"{self.chance.randrange(16**6):06x}"
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
                "prefix": f"{self.run}-{prefix}{number}",
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
        return [*self._own, *read_journals(self.folder.glob("*/*.jsonl"))]

    def note_confirmed(self, key: str, *, guilty: bool = False) -> None:
        """Journal a publish of the case's own, which the broker has confirmed."""
        self._own.append(Publish(key, time.time(), 0.0, "confirmed"))
        if guilty:
            self.guilty.add(key)

    def stop(self) -> None:
        """Have every publisher stop after the publish in hand."""
        for publishers in self._publishers:
            publishers.stop()

    def lacks(self, guard: str) -> bool:
        """Whether that guard is taken away."""
        return guard in self.without.split(",")

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

    def publishing(self) -> bool:
        """Whether a publisher is still at it."""
        return any(one.running() for one in self._publishers)

    def published(self) -> None:
        """Wait until every publisher has ended.

        Raises:
            AssertionError: one of them ended of an error that is not the broker's.
        """
        self.until("the publishers are done", lambda: not self.publishing())
        for publishers in self._publishers:
            for process in publishers.processes:
                said = "\n".join(path.read_text() for path in publishers.folder.glob("*.log"))
                assert process.returncode == 0, said[-2000:]

    def at_work(self) -> bool:
        """Whether a task has begun that has not ended."""
        return bool(self.ledger.ask("running"))

    def has_done_more_than(self, effects: int) -> bool:
        """Whether the ledger has more effects."""
        return self.counts()["effects"] > effects

    def drained(self, guilty: str = "", unless: Callable[[], bool] = lambda: False) -> None:
        """Wait until nothing is left to do: the queues are empty, and nothing has happened for a task's length.

        What is lost would never come. So where something is missing the broker is asked, whose count of messages that
        workers hold is up to five seconds old; else the ledger and the letters are enough.

        Args:
            guilty: the prefix of those publishers whose tasks deserve to be dead letters.
            unless: what makes waiting worthless.

        Raises:
            TooLate: something is still there at the end of the case's time.
        """
        self.published()
        if guilty:
            self.guilty |= {one.key for one in self.journal() if one.key.startswith(f"{self.run}-{guilty}")}
        seen, since = None, time.monotonic()
        while not unless():
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

    def inside(self, service: str, script: str, *arguments: str) -> str:
        """Run Python in a container; gives what it wrote."""
        return self.compose("exec", "-T", service, "python", "-c", script, *arguments)

    # --- judging

    def evidence(self) -> Evidence:
        """All that is known from outside, now."""
        attempts, effects, repelled = (
            self.ledger.ask("rows", table=name) for name in ("attempts", "effects", "repelled")
        )
        ours = (self.run, TICK)
        return Evidence(
            journal=self.journal(),
            attempts=[(key, at) for key, at, _ in attempts if key.startswith(ours)],
            effects=[(key, at) for key, at, _ in effects if key.startswith(ours)],
            repelled=[key for key, _ in repelled if key.startswith(ours)],
            letters=[letter for letter in self.broker.letters() if letter.key.startswith(self.run)],
            faults=self.faults,
        )

    def verdict(self) -> Verdict:
        """The judge's, and what the case itself has to say."""
        verdict = judge(self.evidence(), guilty=self.guilty)
        for kind, sentence in self._complaints:
            verdict.complain(kind, sentence)
        verdict.notes = self.notes
        return verdict

    def complain(self, kind: str, sentence: str) -> None:
        """Note that something broke which only this case looks for."""
        self._complaints.append((kind, sentence))

    def confirmed_since(self, when: float) -> bool:
        """Whether a publish that began after `when` was confirmed."""
        return any(one.outcome == "confirmed" and one.at > when for one in self.journal())

    def confirms_nothing_in(self, fault: Fault) -> None:
        """Complain of what was confirmed while nothing can have been."""
        told = [one for one in self.journal() if fault.began + 1 < one.at and one.ended < fault.ended - 1]
        false = [one.key for one in told if one.outcome == "confirmed"]
        self.notes["publishes told no"] = len(told) - len(false)
        if false:
            self.complain("false", f"{len(false)} publishes were confirmed by nobody: {', '.join(false[:5])}")
        if not told:
            self.complain("void", "no publish was told anything during the fault")

    def tells_within(self, seconds: float) -> None:
        """Complain of publishers that waited longer for their outcome."""
        slowest = max((one.took for one in self.journal()), default=0.0)
        self.notes["slowest publish"] = slowest
        if slowest > seconds:
            self.complain("slow", f"a publisher waited {slowest:.1f} s for its outcome, more than {seconds:g} s")

    def recovers_within(self, seconds: float) -> None:
        """Complain where it took longer after a fault until tasks were begun again."""
        evidence = self.evidence()
        if not any(at > evidence.faults[-1].ended for _, at in evidence.attempts):
            self.complain("void", "nothing was left to do after the fault")
        slowest = max(judge(evidence).recovery)
        if slowest > seconds:
            self.complain("slow", f"it worked again {slowest:.1f} s after the fault, more than {seconds:g} s")

    def says_of(self, outcome: str, pattern: str) -> None:
        """Complain of errors with that outcome whose text does not match `pattern`."""
        vague = {
            one.says for one in self.journal() if one.outcome == outcome and not re.search(pattern, one.says, re.I)
        }
        if vague:
            self.complain("vague", f"errors that do not say /{pattern}/: {sorted(vague)[:3]}")

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
