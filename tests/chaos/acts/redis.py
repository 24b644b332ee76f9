"""A Redis that goes away, hangs, or comes back without its memory."""

import json
import subprocess

from tests.chaos.stage import INSIDE, Stage
from tests.e2e.houses import ROOT

#: Seconds that a publish may take while Redis is away. It does not need Redis, and takes milliseconds.
UNAFFECTED = 2.0
#: Seconds that the caller of a chord waits for its result.
PATIENCE = 40.0


def restarted(stage: Stage) -> None:
    """It is stopped, and started a while later."""
    container = stage.container("redis")
    _while_publishing(stage, (("stop", container),), (("start", container),))


def paused(stage: Stage) -> None:
    """It hangs: it takes connections and answers nothing."""
    container = stage.container("redis")
    _while_publishing(stage, (("pause", container),), (("unpause", container),))


def killed_without_its_file(stage: Stage) -> None:
    """It is killed, and comes back with nothing of what it had stored."""
    container = stage.container("redis")
    forget = ("run", "--rm", "--user=999", f"--volumes-from={container}", "--entrypoint=sh", "redis:8", "-c")
    _while_publishing(
        stage,
        (("kill", "--signal=KILL", container), (*forget, "rm -rf /data/*")),
        (("start", container),),
    )


def _while_publishing(stage: Stage, away: tuple[tuple[str, ...], ...], back: tuple[tuple[str, ...], ...]) -> None:
    chords = _call_chords(stage)
    stage.publish()
    stage.until("tasks run, and parts of chords", lambda: stage.counts()["effects"] >= 10)
    with stage.fault():
        try:
            for command in away:
                stage.docker(*command)
            # Programs that begin now have no connection to Redis yet.
            late = stage.publish(20, prefix="late", work=(0.0, 0.0))
            stage.until("another publisher has begun", lambda: any(late.folder.glob("*.jsonl")))
            stage.pause(stage.scale.down)
        finally:
            for command in back:
                stage.docker(*command)
    stage.until("Redis answers", lambda: stage.house.compose("exec", "-T", "redis", *PING).returncode == 0)
    stage.published()
    told, complaint = chords.communicate(timeout=PATIENCE + 30)
    assert chords.returncode == 0, complaint
    stage.drained()
    _unaffected(stage)
    _chords_end(stage, json.loads(told))


PING = ("redis-cli", "--user", "health", "--pass", "any", "--no-auth-warning", "ping")


def _call_chords(stage: Stage) -> "subprocess.Popen[str]":
    order = {
        "prefix": f"{stage.run}-chord",
        "count": stage.scale.times,
        "parts": 4,
        "seconds": stage.scale.work[1],
        "every": 0.5,
        "patience": PATIENCE,
    }
    command = ["docker", "compose", "run", "--rm", "-T", "--no-deps", "-v", f"{INSIDE / 'chords.py'}:/chords.py:ro"]
    command += ["-e", "PYTHONPATH=/app", "--entrypoint", "python", "cli", "/chords.py", json.dumps(order)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)  # type: ignore[call-overload]


def _unaffected(stage: Stage) -> None:
    """Every publish is confirmed as if nothing were."""
    fault = stage.faults[-1]
    during = [one for one in stage.journal() if fault.began <= one.ended and one.at <= fault.ended]
    stage.notes["publishes while Redis was away"] = len(during)
    stage.notes["slowest of them"] = max((one.took for one in during), default=0.0)
    hurt = [one for one in during if one.outcome != "confirmed" or one.took > UNAFFECTED]
    if not during:
        stage.complain("void", "nothing was published while Redis was away")
    if hurt:
        stage.complain("publishing", f"{len(hurt)} publishes waited or failed: {hurt[0]}")


def _chords_end(stage: Stage, outcomes: dict[str, str]) -> None:
    """Each chord's body ran once, or its caller got an error. That no body ran twice is the judge's to say."""
    done = {key for key, _ in stage.evidence().effects}
    for key, outcome in outcomes.items():
        if outcome == "result" and key not in done:
            stage.complain("chord", f"{key}: its caller got a result, and its body never ran")
    stage.notes["chords that gave a result"] = sum(outcome == "result" for outcome in outcomes.values())
    stage.notes["chords that gave an error"] = sum(outcome != "result" for outcome in outcomes.values())
