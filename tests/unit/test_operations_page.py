"""The runbooks say only commands that there are, and have one for each alarm."""

import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from shared.render import alerts

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
TRACING = (ROOT / "docs" / "tracing.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE + TRACING, flags=re.S)
COMMANDS = [shlex.split(line) for block in BLOCKS for line in block.splitlines() if line.strip()]
CLI = [command[5:] for command in COMMANDS if command[:5] == "docker compose run --rm cli".split()]
#: Each section, by the anchor that a link to it has.
SECTIONS = dict(zip(*[iter(re.split(r"^#+ (.*)\n", PAGE, flags=re.M)[1:])] * 2, strict=True))
ANCHORS = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-"): body for title, body in SECTIONS.items()}
ALERTS = [alert for alerts in alerts.groups().values() for alert in alerts]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert.service}-{alert.name}")
def test_each_alert_has_a_runbook_that_says_what_to_do(alert: alerts.Alert) -> None:
    # Given the section that its mail leads to
    body = ANCHORS[alert.runbook]
    # Then that has a command
    assert "```sh" in body
    # And names the metric that the alert looks at
    assert any(metric in body for metric in re.findall(r"taskhouse_\w+|\bup\b", alert.expr)), alert.expr


@pytest.fixture
def celery() -> Iterator[click.Group]:
    """The command. An app that is made tells by its module whether a person started it, so it does not stay."""
    there = "celery.bin.celery" in sys.modules
    yield importlib.import_module("celery.bin.celery").celery
    if not there:
        del sys.modules["celery.bin.celery"]


@pytest.mark.parametrize("command", CLI, ids=" ".join)
def test_a_command_of_the_operator_is_one(command: list[str], celery: click.Group) -> None:
    # Given a command line of the page, then its sub-commands are there and take these arguments
    found: click.Command = celery
    words = list(command)
    while isinstance(found, click.Group) and words and words[0] in found.commands:
        found = found.commands[words.pop(0)]
    assert found is not celery
    found.make_parser(click.Context(found)).parse_args(words)


def test_each_container_that_is_named_is_one() -> None:
    # Given what `docker compose` is told to do with containers
    files = [yaml.load(path.read_text(), _Loader) for path in (ROOT / "compose").glob("*.yaml")]
    services = {name for file in files for name in (file.get("services") or {})}
    named = set()
    for command in COMMANDS:
        if command[:2] == ["docker", "compose"] and command[2] in ("exec", "restart", "logs", "up", "ps"):
            words = [word for word in command[3:] if not word.startswith("-")]
            named.update(words[:1] if command[2] == "exec" else words)
    # Then they are those of the compose files
    assert named <= services


class _Loader(yaml.SafeLoader):
    """Takes compose's own tags for what they stand on."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
