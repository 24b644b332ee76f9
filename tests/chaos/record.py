"""What a run measured, for people and for the table in docs/guarantees.md."""

import json
import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.chaos.oracle import Verdict, percentile


@dataclass(frozen=True)
class Played:
    """One case as it went.

    Attributes:
        case: its name; a negative control is called `<case> without <guards>`.
        form: `short` or `long`.
        seed: of the run.
        seconds: that it took.
        faults: how often it struck.
        down: seconds that it lasted each time; 0 for a moment.
        broker: RabbitMQ's version.
        verdict: the judge's.
    """

    case: str
    form: str
    seed: int
    seconds: float
    faults: int
    down: float
    broker: str
    verdict: Verdict

    def figures(self) -> dict[str, Any]:
        """All of it, as JSON takes it."""
        verdict = self.verdict
        return {
            "form": self.form,
            "seed": self.seed,
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "seconds": round(self.seconds, 1),
            "faults": self.faults,
            "down": self.down,
            "confirmed": verdict.outcomes.get("confirmed", 0),
            "failed": verdict.outcomes.get("failed", 0),
            "unknown": verdict.outcomes.get("unknown", 0),
            "effects": verdict.effects,
            "attempts_per_effect": round(verdict.attempts / verdict.effects, 3) if verdict.effects else 0,
            "redelivered": verdict.redelivered,
            "repelled": verdict.repelled,
            "dead": verdict.dead,
            "recovery_p50": round(percentile(verdict.recovery, 50), 1),
            "recovery_p99": round(percentile(verdict.recovery, 99), 1),
            "notes": {name: round(value, 2) for name, value in verdict.notes.items()},
            "complaints": verdict.complaints,
        }


@dataclass
class Record:
    """Everything that a run played."""

    seed: int
    form: str
    played: list[Played] = field(default_factory=list)

    def add(self, played: Played) -> None:
        """Keep it, and with CHAOS_RECORD write it to that file too."""
        self.played.append(played)
        path = os.environ.get("CHAOS_RECORD")
        if path:
            _write(Path(path), played)

    def as_text(self) -> str:
        """A line a case."""
        return "\n".join(_line(played) for played in self.played)


def machine() -> str:
    """Size and system of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release().split('-')[0]}"


def _write(path: Path, played: Played) -> None:
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    cases = kept.setdefault("cases", {})
    before = cases.get(played.case)
    # A long form says more than a short one, and only a later long form takes its place.
    if before is None or before["form"] == "short" or played.form == "long":
        kept["machine"] = machine()
        kept["versions"] = f"Celery {version('celery')}, kombu {version('kombu')}, RabbitMQ {played.broker}"
        cases[played.case] = played.figures()
        path.write_text(json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def _line(played: Played) -> str:
    figures = played.figures()
    outcome = "; ".join(played.verdict.complaints) or "passed"
    return (
        f"{played.case}: {figures['confirmed']} confirmed, {figures['effects']} effects, "
        f"{figures['attempts_per_effect']} attempts an effect, recovery p50 {figures['recovery_p50']} s, "
        f"p99 {figures['recovery_p99']} s, dead letters {figures['dead'] or 0}, "
        f"{figures['notes'] or ''} in {played.seconds:.0f} s: {outcome}"
    )
