"""A broker that takes nothing more: an alarm for memory, or for disk."""

from tests.chaos.stage import Stage

#: Seconds that publishers wait here for a confirmation.
TIMEOUT = 1.0
#: Seconds that a busy machine may add to it.
SLACK = 3.0
#: What each error tells the publisher to do next.
ADVICE = "publish it again"
#: What rabbitmqctl is told, to raise the alarm and to end it.
ALARMS = {
    "memory": (("set_vm_memory_high_watermark", "0"), ("set_vm_memory_high_watermark", "0.4")),
    "disk": (("set_disk_free_limit", "100000GB"), ("set_disk_free_limit", "1GB")),
}


def memory_alarm(stage: Stage) -> None:
    """The broker says that its memory is full."""
    _alarm(stage, "memory")


def disk_alarm(stage: Stage) -> None:
    """The broker says that its disk is full."""
    _alarm(stage, "disk")


def _alarm(stage: Stage, what: str) -> None:
    raised, ended = ALARMS[what]
    # Given tasks that wait, so that there is something to drain
    stage.publish()
    stage.published()
    rabbitmqctl = ("exec", "-T", "rabbitmq", "rabbitmqctl", "-q")
    with stage.fault():
        stage.compose(*rabbitmqctl, *raised)
        try:
            stage.publish(1000, prefix="late", environ={"PUBLISH_TIMEOUT": f"{TIMEOUT:g}"}, rate=5.0, work=(0.0, 0.0))
            stage.pause(stage.scale.down)
            stage.until("consumers drain", lambda: stage.counts()["effects"] >= stage.scale.tasks)
        finally:
            stage.compose(*rabbitmqctl, *ended)
    stage.until("a publish is confirmed again", lambda: stage.confirmed_since(stage.faults[-1].ended))
    stage.stop()
    stage.drained()
    stage.confirms_nothing_in(stage.faults[-1])
    stage.tells_within(TIMEOUT + SLACK)
    stage.says_of("failed", ADVICE)
    stage.says_of("unknown", ADVICE)
