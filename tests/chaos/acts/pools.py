"""Pools that are stopped and started anew, as at an upgrade."""

from shared.topology import SERVICES
from tests.chaos.stage import Stage

EVERY = tuple(spec.name for spec in SERVICES)


def rolling_restart(stage: Stage) -> None:
    """Each pool in turn gets SIGTERM, ends within its grace period, and is started anew, while all have work."""
    stage.publish(services=EVERY)
    stage.until("tasks run", lambda: stage.counts()["effects"] >= 5)
    for service in EVERY:
        container = stage.container(service)
        with stage.fault():
            if stage.lacks("grace"):
                stage.docker("stop", "--time=0", container)
            else:
                stage.docker("stop", container)
        code = stage.docker("inspect", "--format", "{{.State.ExitCode}}", container).strip()
        stage.notes[f"{service} stopped in"] = stage.faults[-1].ended - stage.faults[-1].began
        if code == "137":
            stage.complain("killed", f"{service} was still there at the end of its grace period")
        stage.docker("start", container)
    stage.drained()
