"""`celery -A shared.app contract export|diff`: what tasks take and give, and what a change of it does."""

import json
import sys
from typing import IO

import click

from shared.cli import ExitCode


@click.group()
def contract() -> None:
    """What every task takes and gives."""


@contract.command()
@click.option("--output", "-o", type=click.File("w", atomic=True), default="-", help="a file; prints it unless given")
def export(output: IO[str]) -> None:
    """Every task with JSON Schemas of its arguments and its result, as JSON."""
    from shared.contract import render

    output.write(render())


@contract.command()
@click.argument("old", type=click.File())
@click.argument("new", type=click.File(), required=False)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def diff(old: IO[str], new: IO[str] | None, form: str) -> None:
    """Compare two exported contracts; NEW is this tree's unless given. `-` reads standard input.

    Exit status: 0 nothing breaks, 1 something does, 2 a file is no contract.
    """
    from shared.contract import Verdict, compare, export, read
    from shared.errors import ContractError

    try:
        changes = compare(read(old.read()), read(new.read()) if new else export())
    except ContractError as error:
        raise click.UsageError(str(error)) from None
    if form == "json":
        rows = [{"task": one.task, "what": one.what, "verdict": one.verdict.name.lower()} for one in changes]
        click.echo(json.dumps(rows, indent=2))
    else:
        for one in changes:
            click.echo(f"{one.verdict.name.lower().replace('_', ' '):14} {one.task}: {one.what}")
        if not changes:
            click.echo("nothing has changed", err=True)
    if any(one.verdict is Verdict.BREAKING for one in changes):
        sys.exit(ExitCode.FAILED)
