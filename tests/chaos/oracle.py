"""The judge. It knows the publishers' journals, the ledger and the dead letters, and nothing that the system says."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Publish:
    """One line of a journal.

    Attributes:
        key: the task's id, and its effect's key.
        at: when it began, seconds since 1970.
        took: seconds until its publisher knew the outcome.
        outcome: `confirmed`, `failed` or `unknown`.
        error, says: the class and the text of what was raised; empty where nothing was.
    """

    key: str
    at: float
    took: float
    outcome: str
    error: str = ""
    says: str = ""

    @property
    def ended(self) -> float:
        """When its publisher knew."""
        return self.at + self.took


@dataclass(frozen=True)
class Letter:
    """A dead letter: its task's id, empty where the message has none, and its reason."""

    key: str
    reason: str


@dataclass(frozen=True)
class Fault:
    """What was done to the system, from `began` to `ended`, seconds since 1970."""

    began: float
    ended: float


@dataclass(frozen=True)
class Evidence:
    """All that is known from outside.

    Attributes:
        journal: each publish.
        attempts: (key, time) of each attempt that began.
        effects: (key, time) of each effect.
        repelled: keys of effects that the guard refused, once a refusal.
        letters: what lies in the dead-letter queues and in `unrouted`.
        faults: what was done.
    """

    journal: Sequence[Publish] = ()
    attempts: Sequence[tuple[str, float]] = ()
    effects: Sequence[tuple[str, float]] = ()
    repelled: Sequence[str] = ()
    letters: Sequence[Letter] = ()
    faults: Sequence[Fault] = ()


@dataclass
class Verdict:
    """What the judge found; `complaints` is empty where the case passes.

    Attributes:
        outcomes: publishes by outcome.
        effects, attempts, repelled: how many.
        redelivered: keys that were begun more than once.
        dead: letters by reason.
        recovery: seconds, one a fault.
        complaints: what broke, each a sentence that begins with one word for its kind.
        notes: what a case measured besides.
    """

    outcomes: dict[str, int] = field(default_factory=dict)
    effects: int = 0
    attempts: int = 0
    repelled: int = 0
    redelivered: int = 0
    dead: dict[str, int] = field(default_factory=dict)
    recovery: list[float] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing broke."""
        return not self.complaints

    def complain(self, kind: str, sentence: str) -> None:
        """Note that something broke."""
        self.complaints.append(f"{kind}: {sentence}")

    def kinds(self) -> set[str]:
        """The kinds of what broke."""
        return {complaint.partition(":")[0] for complaint in self.complaints}


def judge(evidence: Evidence, *, guilty: Iterable[str] = ()) -> Verdict:
    """Confirmed ⊆ effects ∪ dead letters; no key twice; no dead letter of an innocent.

    Args:
        guilty: keys whose dead letter is what they deserve.
    """
    happened = Counter(key for key, _ in evidence.effects)
    begun = Counter(key for key, _ in evidence.attempts)
    buried = {letter.key for letter in evidence.letters}
    verdict = Verdict(
        outcomes=dict(Counter(publish.outcome for publish in evidence.journal)),
        effects=len(happened),
        attempts=len(evidence.attempts),
        repelled=len(evidence.repelled),
        redelivered=sum(1 for times in begun.values() if times > 1),
        dead=dict(Counter(letter.reason for letter in evidence.letters)),
        recovery=[_recovery(fault, evidence) for fault in evidence.faults],
    )
    confirmed = {publish.key for publish in evidence.journal if publish.outcome == "confirmed"}
    refused = {publish.key for publish in evidence.journal if publish.outcome == "failed"}
    if not confirmed:
        verdict.complain("void", "nothing was confirmed, so nothing was tried")
    for kind, keys, what in (
        ("lost", confirmed - happened.keys() - buried, "confirmed, but neither done nor a dead letter"),
        ("twice", {key for key, times in happened.items() if times > 1}, "had their effect more than once"),
        ("innocent", buried - set(guilty), "dead letters of tasks that did nothing wrong"),
        ("untrue", refused & happened.keys(), "refused, said their publisher, and done all the same"),
    ):
        if keys:
            verdict.complain(kind, f"{len(keys)} {what}: {', '.join(sorted(keys)[:5])}")
    return verdict


def read_journals(paths: Iterable[Path]) -> list[Publish]:
    """Every complete line of these journals; a last one that is still being written is left out."""
    lines = (line for path in sorted(paths) for line in path.read_text().splitlines(keepends=True))
    return [Publish(**json.loads(line)) for line in lines if line.endswith("\n")]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of `values` that `percent` of them do not exceed; 0 where there are none."""
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * int(percent) // 100) - 1)] if ranked else 0.0


def _recovery(fault: Fault, evidence: Evidence) -> float:
    """Seconds from the fault's end until a task is begun, and each one that was interrupted is begun again."""
    done: Mapping[str, float] = dict(evidence.effects)
    first: float | None = None
    open_before: dict[str, float | None] = {}
    for key, at in evidence.attempts:
        if at < fault.began:
            if done.get(key, at + 1) > fault.began:
                open_before[key] = None
        else:
            if key in open_before and open_before[key] is None:
                open_before[key] = at
            if at >= fault.ended and first is None:
                first = at
    again = [at for at in open_before.values() if at is not None]
    return max(0.0, *((at - fault.ended) for at in [*again, *([first] if first else [])]), 0.0)
