"""`celery -A shared.app dlq`: what it refuses. What it does stands in tests/e2e/test_dlq.py."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from shared.cli.dlq import dlq
from shared.cli.dlq_view import age


@pytest.fixture
def run(make_app: Any, cluster: dict[str, str]) -> Any:
    """Runs the command against a broker that nobody can reach."""
    app = make_app(**{**cluster, "broker_url": "amqp://operator@127.0.0.1:1//"})

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(dlq, arguments, obj=SimpleNamespace(app=app))

    return invoke


def test_without_a_broker_there_are_no_dead_letters(make_app: Any) -> None:
    result = CliRunner().invoke(dlq, ["list"], obj=SimpleNamespace(app=make_app()))
    assert result.exit_code == 2
    assert "set BROKER_URL and REDIS_URL" in result.stderr


@pytest.mark.parametrize("command", [("list",), ("show", "x"), ("drop", "--all", "--yes")])
def test_a_broker_that_is_away_is_told_in_one_line(run: Any, command: tuple[str, ...]) -> None:
    result = run(*command)
    assert result.exit_code == 3
    assert result.stderr.count("\n") == 1 and "the broker does not answer" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("replay",), "--all"),
        (("drop", "--yes"), "--all"),
        (("list", "--reason", "bad luck"), "retries_exhausted"),
        (("list", "--service", "nobody"), "there is no service 'nobody'"),
        (("list", "--older-than", "soon"), "90s, 15m, 2h or 3d"),
        (("replay", "--all", "--kwargs", "{"), "--kwargs: this is no JSON"),
        (("replay", "--all", "--kwargs", "[]"), "give a JSON object"),
        (("replay", "--all", "--args", "{}"), "give a JSON list"),
    ],
)
def test_an_argument_that_is_wrong_is_named(run: Any, arguments: tuple[str, ...], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (59, "59s"), (61, "1m"), (7300, "2h"), (200_000, "2d"), (-1, "0s")]
)
def test_an_age_is_shown_in_its_largest_unit(seconds: float, shown: str) -> None:
    assert age(seconds) == shown


def test_the_command_costs_other_processes_nothing() -> None:
    # Every `celery` process loads the module to know the command's name.
    script = (
        "import sys, shared.cli.dlq; sys.exit(any(name in sys.modules for name in ('rich', 'redis', 'amqp', 'celery')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
