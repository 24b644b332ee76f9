"""Processes and containers that die in the middle of their work."""

from functools import partial

from tests.chaos.stage import Stage

#: Kills one child of the worker's pool, by chance, if one is at work; prints how many there were.
KILL_A_CHILD = """
import os, random, signal
def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]
(worker,) = [child for child in children(1)]
pool = children(worker)
if pool:
    os.kill(random.Random(%d).choice(pool), signal.SIGKILL)
print(len(pool))
"""


def pool_child(stage: Stage) -> None:
    """A child of the pool is killed while tasks run, again and again."""
    stage.publish()
    for _ in range(stage.scale.times):
        stage.until("tasks run", stage.at_work)
        stage.pause(stage.chance.uniform(0.1, 1.0))
        with stage.fault():
            stage.until("a child is there to be killed", lambda: _kill_a_child(stage))
    stage.drained()


def whole_container(stage: Stage) -> None:
    """The container of the pool is killed while tasks run, and started anew, again and again."""
    stage.publish()
    container = stage.container("calculator")
    for _ in range(stage.scale.times):
        stage.until("tasks run", stage.at_work)
        stage.pause(stage.chance.uniform(0.1, 1.5))
        with stage.fault():
            stage.docker("kill", "--signal=KILL", container)
        before = stage.counts()["effects"]
        stage.docker("start", container)
        stage.until("it works again", partial(stage.has_done_more_than, before))
    stage.drained()


def _kill_a_child(stage: Stage) -> bool:
    return int(stage.inside("calculator", KILL_A_CHILD % stage.chance.randrange(2**31))) > 0
