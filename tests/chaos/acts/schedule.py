"""Two beats where there should be one, and a clock that is wrong."""

import time

import pytest

from tests.chaos.stage import TICK, Stage

#: Seconds between two ticks.
EVERY = 1.0
#: Seconds that the clock of one container is ahead.
AHEAD = 600
BEATS = ("beat", "beat-2")
START = ("--profile", "chaos", "up", "-d", "--wait", "--no-deps", "--force-recreate")


def two_beats(stage: Stage) -> None:
    """Two beats act at once, without the lock between them; then, with it, one with a wrong clock takes over."""
    stage.publish(1)
    _stop(stage)
    stage.compose("--profile", "chaos", "build", "--quiet", "beat-2", timeout=300)
    try:
        without = ",".join(filter(None, (stage.without, "lock")))
        _start(stage, *BEATS, CHAOS_WITHOUT=without)
        _tick(stage, stage.scale.down)
        stage.notes["ticks that both published"] = stage.counts()["repelled"]
        if not stage.without and not stage.notes["ticks that both published"]:
            stage.complain("void", "the two beats never acted at once")
        if not stage.without:
            _stop(stage)
            _start(stage, "beat")
            wrong = {"CHAOS_PRELOAD": "/usr/lib/libfaketime.so", "CHAOS_CLOCK": f"+{AHEAD}"}
            _start(stage, "beat-2", **wrong)
            _tick(stage, stage.scale.down)
            with stage.fault():
                stage.docker("kill", "--signal=KILL", stage.container("beat"))
                before = stage.counts()["effects"]
                stage.until("the other beat acts", lambda: stage.has_done_more_than(before + 1))
            _tick(stage, stage.scale.down)
    finally:
        _stop(stage)
    stage.drained()


def _start(stage: Stage, *beats: str, **environ: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"CHAOS_WITHOUT": "", **environ}.items():
            patch.setenv(name, value)
        stage.compose(*START, *beats)


def _stop(stage: Stage) -> None:
    stage.compose("--profile", "chaos", "stop", *BEATS)
    # What they have stored of their last tick may be of a time to come.
    stage.house.celery("schedule", "remove", "chaos")


def _tick(stage: Stage, seconds: float) -> None:
    """Let ticks come; each has one effect."""
    began, before = time.monotonic(), _ticks(stage)
    stage.pause(seconds)
    lasted, effects = time.monotonic() - began, _ticks(stage) - before
    # One at each end may be in part outside.
    if effects > lasted / EVERY + 2:
        stage.complain("twice", f"{effects} effects of ticks in {lasted:.0f} s, one every {EVERY:g} s")
    if effects < lasted / EVERY / 2:
        stage.complain("missing", f"only {effects} ticks in {lasted:.0f} s, one every {EVERY:g} s")
    stage.notes["ticks"] = stage.notes.get("ticks", 0) + effects


def _ticks(stage: Stage) -> int:
    return sum(key.startswith(TICK) for key, _ in stage.evidence().effects)
