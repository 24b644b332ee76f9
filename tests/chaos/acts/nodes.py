"""A broker of three nodes that loses one, or two, or whose leader is cut off."""

from tests.chaos.acts.broker import SLACK
from tests.chaos.acts.network import PATIENCE, Sidecar
from tests.chaos.oracle import percentile
from tests.chaos.stage import Stage

NODES = ("rabbitmq", "rabbitmq-2", "rabbitmq-3")
#: Programs that publish at once.
PUBLISHERS = 3
#: Seconds that publishers wait for a confirmation where it cannot come.
TIMEOUT = 2.0
QUEUE = "calculator"
#: Everything but what a container says to itself.
ALL = ("INPUT ! -i lo -j DROP", "OUTPUT ! -o lo -j DROP")


def one_killed(stage: Stage) -> None:
    """One node after another is killed and comes back, while tasks are published as fast as they are confirmed."""
    stage.publish(processes=PUBLISHERS, sync_every=50)
    stage.until("tasks run", lambda: stage.counts()["effects"] >= 50)
    order = stage.chance.sample(NODES, len(NODES))
    struck = 0
    while struck < stage.scale.times or stage.publishing():
        container = stage.container(order[struck % len(order)])
        with stage.fault():
            stage.docker("kill", "--signal=KILL", container)
            stage.pause(stage.scale.down)
            stage.docker("start", container)
        struck += 1
        stage.until("all three are there again", lambda: stage.broker.complete(QUEUE, len(NODES)), every=1.0)
        if stage.publishing():
            stage.pause(stage.scale.down)
    stage.drained()
    took = [one.took for one in stage.journal()]
    stage.notes["longest stall of a publisher"] = max(took, default=0.0)
    stage.notes["p99 of a publish"] = percentile(took, 99)


def two_killed(stage: Stage) -> None:
    """Two of three are killed: nobody can confirm anything until one is back."""
    stage.publish()
    stage.published()
    if stage.lacks("pause_minority"):
        _handle_partitions(stage, "ignore")
    lost = [stage.container(name) for name in stage.chance.sample(NODES, 2)]
    with stage.fault():
        stage.docker("kill", "--signal=KILL", *lost)
        stage.publish(1000, prefix="late", environ={"PUBLISH_TIMEOUT": f"{TIMEOUT:g}"}, rate=5.0, work=(0.0, 0.0))
        stage.until("publishers were told something", lambda: len(stage.journal()) > stage.scale.tasks + 1)
        stage.pause(stage.scale.down)
    stage.docker("start", *lost)
    stage.until("all three are there again", lambda: stage.broker.complete(QUEUE, len(NODES)), every=1.0)
    if stage.lacks("pause_minority"):
        _handle_partitions(stage, "pause_minority")
    stage.until("a publish is confirmed again", lambda: stage.confirmed_since(stage.faults[-1].ended))
    stage.stop()
    stage.drained()
    stage.confirms_nothing_in(stage.faults[-1])
    stage.tells_within(TIMEOUT + SLACK)


def _handle_partitions(stage: Stage, how: str) -> None:
    setting = f"application:set_env(rabbit, cluster_partition_handling, {how})."
    for node in NODES:
        stage.compose("exec", "-T", node, "rabbitmqctl", "-q", "eval", setting)


def leader_isolated(stage: Stage) -> None:
    """Everything to and from the node that leads the queue is dropped; then it passes again."""
    leader = stage.broker.leader(QUEUE)
    environ = {"PUBLISH_TIMEOUT": f"{TIMEOUT:g}"}
    if stage.lacks("confirms"):
        # All of them speak to that node.
        environ |= {"BROKER_URL": f"amqp://operator@{leader}:5672//", "BROKER_FAILOVER": ""}
    sidecar = Sidecar(stage, leader)
    stage.publish(processes=PUBLISHERS, environ=environ)
    stage.until("tasks run", lambda: stage.counts()["effects"] >= 20)
    with stage.fault(), sidecar.rules(*ALL):
        stage.pause(stage.scale.down)
    stage.until("all three are there again", lambda: stage.broker.complete(QUEUE, len(NODES)), every=1.0)
    stage.drained()
    stage.recovers_within(2 * stage.heartbeat + PATIENCE)
    stage.tells_within(TIMEOUT + SLACK)
