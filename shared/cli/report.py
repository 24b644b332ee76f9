"""`celery -A shared.app report`: ask for a report, watch it grow, have the CSV."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from shared.errors import InvalidArguments
from shared.signatures import reporter as contract
from shared.signatures.reporter import ReportResult

#: What each stage counts, for people.
STAGES = {"fetch": "pages fetched", "write": "rows written"}


@click.command()
@click.option("--period", help="day, week or month before --ref-date; without it: created on or after --ref-date")
@click.option("--ref-date", help="YYYY-MM-DD; today (UTC) unless given")
@click.option("--group-by", default="language", show_default=True, help="language or topic")
@click.option(
    "--layout", default="grouped", show_default=True, help="grouped: a line a language; table: one a repository"
)
@click.option("--per-language", is_flag=True, help="a file a language, and an index of them")
@click.option("--refresh", is_flag=True, help="ask GitHub again though the report is there")
@click.option("--output", "-o", envvar="REPORTS_OUT", help="folder to copy the CSV to; - prints it")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=300.0, show_default=True, help="seconds"
)
@click.pass_context
def report(context: click.Context, /, output: str | None, form: str, timeout: float, **question: Any) -> None:
    """The 500 hottest GitHub repositories as CSV.

    Exit status: 0 done, 1 the report failed, 2 an argument is wrong, 3 the broker or the result store is away,
    4 nobody answered within --timeout.
    """
    from shared.cli import follow

    app = context.obj.app
    try:
        signature = contract.produce_report(**question)
    except InvalidArguments as error:
        raise click.UsageError(str(error)) from None
    with follow.worker(app, "reporter"):
        result = ReportResult.model_validate(follow.run(app, signature, STAGES, timeout, _written))
        paths = _bring(result, app.settings.reports_location, output)
        if form == "json":
            click.echo(result.model_dump_json(indent=2), file=sys.stderr if output == "-" else None)
        else:
            follow.describe(result, paths, to_stderr=output == "-")


def _written(result: dict[str, Any]) -> dict[str, int]:
    return {} if result["reused"] else {"write": len(result["files"]) or result["rows"]}


def _bring(result: ReportResult, location: str, output: str | None) -> list[str]:
    """Copy the report's files from where they are kept to where the user is; gives their paths for people."""
    from shared.storage import Storage

    storage = Storage(location)
    files = [result, *result.files]
    if output == "-":
        sys.stdout.buffer.write(storage.read(result.name))
        sys.stdout.flush()
    if output in (None, "-"):
        return [file.url.removeprefix("file://") for file in files]
    target = Storage(output)
    try:
        if Path(output).is_dir() and Path(output).stat().st_uid != os.geteuid():
            # In a container we are another user than the folder's owner, who should be able to remove what we leave.
            os.umask(0)
        for file in files:
            target.write(file.name, storage.read(file.name))
    except OSError as error:
        raise click.ClickException(f"--output: cannot write to {output}: {error}") from None
    return [str(Path(output) / file.name) for file in files]


@click.command()
@click.pass_context
def bugreport(context: click.Context) -> None:
    """What Celery's own `report` shows: versions and settings, for a bug report."""
    app = context.obj.app
    app.loader.import_default_modules()
    click.echo(app.bugreport())
