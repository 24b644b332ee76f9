"""All workers under one choice, and an app that publishes to them."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from celery import _state

from shared import serializers
from shared.app import App, create_app
from shared.config import Settings
from shared.dead_letters.letter import DeadLetter
from shared.dead_letters.shelf import shelf
from shared.spec import Pool
from shared.topology import dead_letter_queue, service
from tests.choices.servers import Servers, Worker, until
from tests.stand_ins.github import GitHubStandIn
from tests.stand_ins.smtp import SmtpStandIn

SERVICES = ("reporter", "mailer", "calculator", "scoped")


@dataclass(frozen=True)
class Choice:
    """What a team chose; the rest is as shipped."""

    broker: str = "rabbitmq"
    serializer: serializers.Name = "json"
    compression: str = "none"
    pool: Pool = "prefork"

    def __str__(self) -> str:
        return "-".join((self.broker, self.serializer, self.compression, self.pool))


@dataclass(frozen=True)
class House:
    """The running workers, their publisher, and what they speak to."""

    choice: Choice
    app: App
    workers: dict[str, Worker]
    smtp: SmtpStandIn
    reports: Path
    task_logs: Path
    operator: dict[str, str] = field(repr=False)

    def letters(self, name: str) -> list[DeadLetter]:
        """The dead letters of a service."""
        with shelf(self.app, dead_letter_queue(name)) as there:
            return list(there)

    def letter(self, task_id: str, name: str = "calculator") -> DeadLetter:
        """The dead letter of a task, once it is there."""
        found: list[DeadLetter] = []

        def there() -> bool:
            found[:] = [letter for letter in self.letters(name) if letter.id == task_id]
            return bool(found)

        until(f"the dead letter of {task_id}", there)
        return found[0]


@contextmanager
def house(
    servers: Servers, choice: Choice, folder: Path, database: int, names: tuple[str, ...] = SERVICES
) -> Iterator[House]:
    """Start everything under `choice`, and end it with the block."""
    common = {
        "TASK_SERIALIZER": choice.serializer,
        "TASK_COMPRESSION": choice.compression,
        "REPORTS_URL": str(folder / "reports"),
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
    }
    kept, default, environment = _state._tls.current_app, _state.default_app, dict(os.environ)
    with ExitStack() as stack:
        smtp, github = stack.enter_context(SmtpStandIn()), stack.enter_context(GitHubStandIn(rate_limits=False))
        workers = {}
        for name in names:
            # Two at a time are enough to get in each other's way, and start sooner.
            spec = replace(service(name), concurrency=(1, 2))
            mine = {"SMTP_URL": smtp.url, "GITHUB_API_URL": github.url, "TASK_LOG_DIR": str(folder / "logs")}
            environ = {**common, **servers.environ(name, choice.broker, database), **mine}
            workers[name] = Worker(spec, choice.pool, environ, folder)
            stack.callback(workers[name].stop)
        operator = {**common, **servers.environ("operator", choice.broker, database)}
        app = create_app(settings=Settings.load(operator))
        stack.callback(_restore, app, kept, default, environment)
        for worker in workers.values():
            worker.wait()
        yield House(choice, app, workers, smtp, folder / "reports", folder / "logs", operator)


def _restore(app: App, kept: Any, default: Any, environment: dict[str, str]) -> None:
    app.close()
    _state._tls.current_app = kept
    _state.set_default_app(default)
    os.environ.clear()
    os.environ.update(environment)
