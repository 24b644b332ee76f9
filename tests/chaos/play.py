"""One playing of one case, from an empty stage to its line in the record."""

import random
import time
from pathlib import Path

from tests.chaos.cases import Case
from tests.chaos.conftest import FORM, LANE, SEED
from tests.chaos.oracle import Verdict
from tests.chaos.record import Played, Record
from tests.chaos.theatre import Theatre


def play(
    case: Case,
    theatre: Theatre,
    chance: random.Random,
    folder: Path,
    record: Record,
    without: str = "",
    *,
    lane: bool = LANE,
) -> Verdict:
    """Play `case`, in the run's form, or without a guard in the form of its control; gives the judge's verdict.

    With `lane` every task is in the fast lane.
    """
    long = FORM == "long" and not without
    scale = (case.control.scale or case.short) if without else (case.long if long else case.short)
    heartbeat = None if long else case.heartbeat
    print(f"chaos: {case.name} CHAOS_SEED={SEED} {'long' if long else 'short'} form, without {without or 'nothing'}")
    stage = theatre.stage(
        scale, chance, folder, services=case.services, without=without, heartbeat=heartbeat, lane=lane
    )
    before = theatre.taken() if lane else 0
    began = time.monotonic()
    try:
        case.act(stage)
        if lane:
            stage.notes["in the fast lane"] = theatre.taken() - before
            if not without and not stage.notes["in the fast lane"]:
                stage.complain("lane", "no message was in the fast lane")
        verdict = stage.verdict()
    finally:
        stage.close()
    name = f"{case.name} without {without}" if without else case.name
    name += " in the lane" if lane else ""
    seconds, form = time.monotonic() - began, "long" if long else "short"
    record.add(Played(name, form, SEED, seconds, len(stage.faults), scale.down, theatre.broker.version(), verdict))
    return verdict
