"""`celery -A shared.app call`: any task, by its name, played in embedded mode."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.cli import ExitCode

#: Nobody listens at the first port of a machine.
NOWHERE = {"BROKER_URL": "amqp://127.0.0.1:1//", "REDIS_URL": "redis://127.0.0.1:1/0"}


@pytest.fixture
def call(tmp_path: Path) -> "Call":
    return Call(tmp_path)


class Call:
    def __init__(self, folder: Path) -> None:
        self._environ = {"PATH": os.environ["PATH"], "LOCAL_DIR": str(folder / "local")}

    def __call__(self, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "celery", "-A", "shared.app", "call", *arguments],
            env=self._environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        (("calculator.add", "a=1", "b=2"), 3),
        (("calculator.add", "--args", "[1.5, 2]"), 3.5),
        (("calculator.add", "a=1", "--kwargs", '{"b": 2}'), 3),
        # A task that keeps no result has one where somebody waits for it.
        (("calculator.note", "about=5"), None),
    ],
)
def test_its_answer_is_printed(call: Call, arguments: tuple[str, ...], result: object) -> None:
    done = call(*arguments, "--wait")
    assert (done.returncode, json.loads(done.stdout)) == (ExitCode.OK, result), done.stderr


def test_without_waiting_its_id_is_printed(call: Call) -> None:
    done = call("calculator.add", "a=1", "b=2")
    assert done.returncode == ExitCode.OK
    assert len(done.stdout.strip()) == 36


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("calculater.add",), "there is no task 'calculater.add': did you mean calculator.add"),
        (("calculator.add", "a=1"), "missing a required argument: 'b'\nIt takes: a, b"),
        (("calculator.add", "a=1", "b=x"), "calculator.add: b"),
        (("calculator.add", "a=1", "b=2", "c=3"), "unexpected keyword argument 'c'"),
        (("calculator.add", "1", "2"), "'1' is no argument: write it as name=value"),
        (("calculator.add", "--args", "[1"), "this is no JSON"),
        (("calculator.add", "--args", "{}"), "must be a list"),
        (("calculator.add", "--kwargs", "[]"), "must be an object"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_sent(call: Call, arguments: tuple[str, ...], reason: str) -> None:
    # Given a broker that nobody could reach
    done = call(*arguments, **NOWHERE)
    assert done.returncode == ExitCode.USAGE
    assert reason in done.stderr


def test_a_task_that_is_not_known_here_is_handed_in_where_that_is_said(call: Call) -> None:
    done = call("calculator.of_tomorrow", "a=1", "--undeclared")
    assert done.returncode == ExitCode.OK and len(done.stdout.strip()) == 36, done.stderr


def test_a_task_that_fails_says_why(call: Call) -> None:
    done = call("calculator.add_days", "days=3000000", "--wait")
    assert done.returncode == ExitCode.FAILED
    assert "no day lies 3000000 days after" in done.stderr


def test_a_broker_that_is_away_is_told(call: Call) -> None:
    done = call("calculator.add", "a=1", "b=2", PUBLISH_TIMEOUT="1", **NOWHERE)
    assert done.returncode == ExitCode.UNREACHABLE
    assert done.stderr.startswith("the broker does not take the task:")


@pytest.mark.parametrize(("app", "names"), [("shared.app", ["calculator.add", "calculator.add_days"]), ("other", [])])
def test_the_shell_completes_the_names_of_our_tasks_alone(app: str, names: list[str]) -> None:
    words = f"celery -A {app} call calculator.a"
    asked = {"_CELERY_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "4"}
    celery = Path(sys.executable).with_name("celery")
    told = subprocess.run([celery], env=os.environ | asked, capture_output=True, text=True, check=False).stdout
    assert told.split() == [f"plain,{name}" for name in names]
