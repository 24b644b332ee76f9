"""A mailer's worker as a process that a test may kill, and its publisher."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celery import Signature
from celery.result import AsyncResult

from shared.app import App, create_app
from shared.config import Settings
from shared.embedded.transport import Transport
from shared.render.worker import embedded_arguments
from shared.topology import service
from tests.waiting import eventually


def publisher(house: Path) -> App:
    """An app that publishes to the workers that live in the folder `house`."""
    # kombu remembers for the whole process what is bound, whatever the folder.
    Transport.global_state.clear()
    return create_app(settings=Settings.load({"LOCAL_DIR": str(house)}), current=False)


class MailerWorker:
    """A worker of `mailer` without any broker.

    Args:
        app: publishes to it; several workers of one house share it.
        environ: its settings.
    """

    def __init__(self, app: App, environ: Mapping[str, str]) -> None:
        self.app = app
        self._house = Path(environ["LOCAL_DIR"])
        self._house.mkdir(parents=True, exist_ok=True)
        self._health = self._house / f"consuming-{uuid.uuid4()}"
        self.log = self._house / "mailer.log"
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", *embedded_arguments(service("mailer"))],
                env={**os.environ, **environ, "HEALTH_FILE": str(self._health)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_until_it_consumes(self) -> None:
        """Or fail with its log."""
        eventually(lambda: self._health.exists() or self._process.poll() is not None)
        assert self._health.exists(), self.log.read_text()

    def publish(self, signature: Signature, task_id: str | None = None) -> AsyncResult:
        """Publish; with the id of an earlier task, what a broker does when a worker dies: give the message again."""
        return self.app.send_task(
            signature.task, signature.args, signature.kwargs, **{**signature.options, "task_id": task_id}
        )

    def result(self, signature: Signature) -> Any:
        """Publish, and give the answer or raise the error."""
        return self.publish(signature).get(timeout=60)

    def freeze(self) -> None:
        """It stops in the middle of whatever it does."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def kill(self) -> None:
        """kill -9"""
        self._process.kill()
        self._process.wait()

    def is_dead(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def has_finished(self, task_id: str) -> bool:
        """Whether the task has an answer, or has failed for good."""
        return self.app.AsyncResult(task_id).ready()

    def forget(self, task_id: str) -> None:
        """Forget the task's answer, so that its next one can be waited for."""
        self.app.AsyncResult(task_id).forget()

    def waiting(self) -> int:
        """How many messages nobody has taken yet."""
        return len(list((self._house / "broker" / "messages").glob("*.msg")))
