"""The two houses that every scenario is played in: embedded on this machine, and the shipped compose file."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from shared.config import Settings
from shared.embedded.worker import running
from shared.signatures.reporter import ReportResult
from shared.topology import service
from tests.e2e.stand_in import StandIn

ROOT = Path(__file__).resolve().parents[2]
#: What a user might keep in a file for the cluster.
GITHUB_TOKEN = "made-up-token-of-the-tests"
#: Seconds that a report may take, faults and their waits included.
PATIENCE = 120


class House(Protocol):
    """Where a scenario is played."""

    @property
    def github(self) -> StandIn:
        """The GitHub that its reporter asks."""

    def celery(self, *arguments: str, timeout: float = PATIENCE) -> "subprocess.CompletedProcess[str]":
        """Run `celery -A shared.app` with `arguments`, as an operator does."""

    def publisher(self, script: str, timeout: float = PATIENCE) -> "subprocess.CompletedProcess[str]":
        """Run a Python program that publishes, as a team's own would."""

    def read(self, name: str) -> bytes:
        """A report's file that was brought to the operator, by its name."""


@dataclass(frozen=True)
class EmbeddedHouse:
    """No server: each command runs the worker beside itself."""

    github: StandIn
    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        """Its own folder, and no server that this shell knows of."""
        mine = {name: value for name, value in os.environ.items() if name not in ("BROKER_URL", "REDIS_URL")}
        return mine | {"LOCAL_DIR": str(self.folder / "local"), "GITHUB_API_URL": self.github.url}

    def celery(self, *arguments: str, timeout: float = PATIENCE) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "celery", "-A", "shared.app", *arguments]
        return _run(command, timeout, self.environ | {"REPORTS_OUT": str(self.folder / "out")})

    def publisher(self, script: str, timeout: float = PATIENCE) -> "subprocess.CompletedProcess[str]":
        settings = Settings.load(self.environ)
        with running(service("reporter"), settings, self.environ):
            return _run([sys.executable, "-c", script], timeout, self.environ)

    def read(self, name: str) -> bytes:
        return (self.folder / "out" / name).read_bytes()


@dataclass(frozen=True)
class ComposeHouse:
    """The shipped compose file, as a project of its own, which variables of the environment name.

    Attributes:
        environ: these variables, where they are not this process's own.
    """

    github: StandIn
    reports: Path
    ports: Mapping[str, int]
    environ: Mapping[str, str] | None = None

    def celery(self, *arguments: str, timeout: float = PATIENCE) -> "subprocess.CompletedProcess[str]":
        return self.compose("run", "--rm", "-T", "--no-deps", "cli", *arguments, timeout=timeout)

    def publisher(self, script: str, timeout: float = PATIENCE) -> "subprocess.CompletedProcess[str]":
        python = ("--entrypoint", "python")
        return self.compose("run", "--rm", "-T", "--no-deps", *python, "cli", "-c", script, timeout=timeout)

    def read(self, name: str) -> bytes:
        return (self.reports / name).read_bytes()

    def compose(self, *arguments: str, timeout: float = PATIENCE) -> "subprocess.CompletedProcess[str]":
        """Run `docker compose` on this project."""
        return _run(["docker", "compose", *arguments], timeout, self.environ)

    def passwords(self) -> dict[str, str]:
        """What `make passwords` shows, by server."""
        shown = self.compose("run", "--rm", "-T", "--no-deps", "setup", "/secrets", "--show").stdout
        return {line.split()[0]: line.split()[-1] for line in shown.splitlines()}

    def messages(self, queue: str) -> int:
        """How many messages wait in `queue`."""
        listed = self.compose("exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "list_queues", "name", "messages").stdout
        return {line.split("\t")[0]: int(line.split("\t")[1]) for line in listed.splitlines()[1:]}[queue]

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """What the engine says of each container of `services`."""
        ids = self.compose("ps", "--all", "--quiet", *services).stdout.split()
        return json.loads(_run(["docker", "inspect", *ids], PATIENCE).stdout)


def report(house: House, *arguments: str) -> ReportResult:
    """Ask for a report that must succeed; gives its result."""
    done = house.celery("report", "--format", "json", *arguments)
    assert done.returncode == 0, done.stderr
    return ReportResult.model_validate_json(done.stdout)


def _run(
    command: list[str], timeout: float, environ: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environ,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
