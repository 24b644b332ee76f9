"""Tasks that end the process that runs them."""

from tests.chaos.stage import Stage


def kills_itself(stage: Stage) -> None:
    """It kills its own process, each time that it is delivered."""
    _among_neighbours(stage, "poison")


def eats_memory(stage: Stage) -> None:
    """It takes memory until the kernel kills it, for its container may use only so much."""
    _among_neighbours(stage, "hungry")


def _among_neighbours(stage: Stage, task: str) -> None:
    container = stage.container("calculator")
    started = "{{.State.StartedAt}}"
    before = stage.docker("inspect", "--format", started, container)
    stage.publish(prefix="neighbour")
    stage.publish(stage.scale.times, prefix="bad", task=task, work=None)
    stage.drained(guilty="bad")
    verdict = stage.verdict()
    wrong = [letter for letter in stage.evidence().letters if letter.reason != "delivery_limit"]
    if wrong:
        stage.complain("reason", f"dead letters that do not say delivery_limit: {wrong}")
    if stage.docker("inspect", "--format", started, container) != before:
        stage.complain("worker", "the whole container ended, and not just a process of its pool")
    stage.notes["deliveries of a bad one"] = (verdict.attempts - verdict.effects) / stage.scale.times
