"""`celery -A shared.app topology render|check|show`."""

import sys
from pathlib import Path

import click

from shared.cli import ExitCode
from shared.topology import SERVICES, dead_letter_queue, validate

# What only these commands need (YAML, tables) is imported where it is used: every `celery` process, workers too,
# loads this module to know the commands' names.

_ROOT = click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="The repository's root; the current folder unless given.",
)


@click.group()
def topology() -> None:
    """What runs, and the files that follow from it."""
    validate()


@topology.command()
@_ROOT
def render(root: Path) -> None:
    """Write the files that follow from shared/topology.py."""
    from shared.render import files

    written = files.write(root)
    for path in written:
        click.echo(f"written  {path}")
    click.echo(f"{len(files.FILES) - len(written)} of {len(files.FILES)} files were up to date", err=True)


@topology.command()
@_ROOT
def check(root: Path) -> None:
    """Fail when a rendered file differs from what the topology says."""
    from shared.render import files

    stale = files.outdated(root)
    for path in stale:
        click.echo(f"outdated  {path}")
    if stale:
        click.echo("run `make topology` and commit what it writes", err=True)
        sys.exit(ExitCode.FAILED)
    click.echo(f"{len(files.FILES)} files say what the topology says")


@topology.command()
def show() -> None:
    """Print each service: its queue, the keys that lead to it, its pool and its limits."""
    from rich.console import Console
    from rich.table import Table

    table = Table("service", "queue", "routing keys", "dead letters", "pool", "at once", "limits", "calls")
    for spec in SERVICES:
        table.add_row(
            spec.name,
            spec.name,
            " ".join(spec.binding_keys),
            dead_letter_queue(spec.name),
            spec.pool,
            "-".join(str(number) for number in sorted(set(spec.concurrency))),
            f"{spec.soft_time_limit}/{spec.time_limit} s",
            " ".join(spec.calls) or "-",
        )
    Console().print(table)
