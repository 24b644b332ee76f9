"""What every service does, whatever else it does."""

import time
import uuid
from typing import Any, NamedTuple

from celery import states

from shared.app import App
from shared.signatures import all as contract
from shared.tasks import Task, implements
from shared.topology import SERVICES

#: Seconds between two looks for answers.
INTERVAL = 0.05


class Answer(NamedTuple):
    """What a service said to a ping.

    Attributes:
        worker: the node that took the message.
        seconds: from the question to its being read here.
    """

    worker: str
    seconds: float


def register(app: App) -> None:
    """Have `app`, a service's, answer."""

    @implements(contract.ping, app, bind=True)
    def ping(task: Task) -> None:
        # All services run the same message, so each answers under an id of its own.
        task.backend.store_result(
            _answer_id(task.request.id, task.app.spec.name), task.request.hostname, states.SUCCESS
        )


def ask(app: App, timeout: float) -> dict[str, Answer | None]:
    """Ping every service, through its queue; gives each one's answer, None where none came within `timeout` seconds.

    Raises:
        OperationalError, TimeoutError: the broker does not take the message.
    """
    question, asked = str(uuid.uuid4()), time.monotonic()
    contract.ping().set(expires=max(1, round(timeout))).apply_async(task_id=question)
    answers: dict[str, Answer | None] = {spec.name: None for spec in SERVICES}
    while True:
        for name in [name for name, answer in answers.items() if answer is None]:
            meta: dict[str, Any] = app.backend.get_task_meta(_answer_id(question, name))
            if meta["status"] == states.SUCCESS:
                answers[name] = Answer(meta["result"], time.monotonic() - asked)
        if all(answers.values()) or time.monotonic() - asked > timeout:
            return answers
        time.sleep(INTERVAL)


def _answer_id(question: str, service: str) -> str:
    return f"{question}.{service}"
