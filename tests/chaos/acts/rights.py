"""A broker user that tries what is not its own."""

import json

from shared.topology import SERVICES, service
from tests.chaos.stage import INSIDE, Stage

EVERY = tuple(spec.name for spec in SERVICES)


def trespass(stage: Stage) -> None:
    """Each service's user tries every other service's queue, dead letters, tasks and the control of all workers."""
    listed = stage.compose(*RABBITMQCTL, "list_user_permissions", "calculator")
    configure, write, read = listed.splitlines()[1].split("\t")[1:]
    if stage.lacks("permissions"):
        stage.compose(*RABBITMQCTL, "set_permissions", "calculator", configure, write, ".*")
    try:
        publishers = stage.publish(services=EVERY)
        script = (INSIDE / "trespass.py").read_text()
        tried = 0
        while publishers.running() or not tried:
            for name in EVERY:
                tried += _try_all(stage, name, script)
        stage.drained()
    finally:
        if stage.lacks("permissions"):
            stage.compose(*RABBITMQCTL, "set_permissions", "calculator", configure, write, read)
    stage.notes["attempts that were refused"] = tried


RABBITMQCTL = ("exec", "-T", "rabbitmq", "rabbitmqctl", "-q")


def _try_all(stage: Stage, name: str, script: str) -> int:
    spec = service(name)
    others = [other for other in EVERY if other != name]
    about = {"own": name, "others": others, "calls": list(spec.calls)}
    answers = json.loads(stage.inside(name, script, json.dumps(about)))
    for what, answer in answers.items():
        if answer != "ACCESS_REFUSED":
            stage.complain("access", f"{name} may {what}: {answer}")
    return len(answers)
