"""`celery -A shared.app report` where something is not as it should be: one line, and a status that says which."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.cli import ExitCode

#: Nobody listens at the first port of a machine.
NOWHERE = {"BROKER_URL": "amqp://127.0.0.1:1//", "REDIS_URL": "redis://127.0.0.1:1/0"}


def celery(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "celery", *arguments],
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_broker_that_is_away_is_told_in_one_line() -> None:
    # When a report is asked for where no broker is
    done = celery("-A", "shared.app", "report", **NOWHERE)

    # Then the command says so and what to do, without a stack, and ends with the status for it
    assert done.returncode == ExitCode.UNREACHABLE
    assert done.stderr.startswith("the broker does not take the task:")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [("shared.app", "report"), ("services.reporter.app", "worker")])
def test_a_wrong_setting_is_told_in_one_line(arguments: tuple[str, str]) -> None:
    # When anything is started with a setting that makes no sense
    done = celery("-A", *arguments, BROKER_URL="http://rabbitmq")

    # Then it ends at once, and names the variable and what it must be
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.startswith("BROKER_URL: must be a URL like amqp://host")
    assert len(done.stderr.splitlines()) == 1


def test_a_worker_that_cannot_start_is_told_with_its_log(tmp_path: Path) -> None:
    # Given a folder in which nothing can be made
    (tmp_path / "reports").write_text("a file where a folder should be")

    # When a report is asked for in embedded mode, and its worker cannot write it
    done = celery(
        "-A",
        "shared.app",
        "report",
        LOCAL_DIR=str(tmp_path),
        GITHUB_API_URL="http://127.0.0.1:1",
        REPORTS_URL="no-such-scheme://x",
    )

    # Then the command fails, and says why
    assert done.returncode == ExitCode.FAILED
    assert "REPORTS_URL" in done.stderr


def test_celerys_own_report_remains_under_another_name(tmp_path: Path) -> None:
    # When the command is asked for help, and Celery's own is called by its new name
    ours = celery("-A", "shared.app", "report", "--help", LOCAL_DIR=str(tmp_path))
    celerys = celery("-A", "shared.app", "bugreport", LOCAL_DIR=str(tmp_path))

    # Then the first is the report of repositories, and the second that of versions
    assert "--period" in ours.stdout
    assert "software -> celery" in celerys.stdout
