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

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
TRACING = (ROOT / "docs" / "tracing.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE + TRACING, flags=re.S)
COMMANDS = [shlex.split(line) for block in BLOCKS for line in block.splitlines() if line.strip()]
CLI = [command[5:] for command in COMMANDS if command[:5] == "docker compose run --rm cli".split()]
#: The alarms that an operator must know what to do about.
ALARMS = (
    "No consumer",
    "A worker that is up and does not consume",
    "The oldest message is too old",
    "Dead letters grow",
    "A message without a service",
    "Many retries",
    "Beat is silent",
    "Mail is held back",
    "The broker has an alarm",
    "The result store is away",
    "Delayed messages do not arrive",
)


@pytest.mark.parametrize("alarm", ALARMS)
def test_each_alarm_has_a_runbook(alarm: str) -> None:
    assert f"\n### {alarm}\n" in PAGE


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
