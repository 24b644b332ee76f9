"""`celery -A shared.app outbox relay|list|retry|drop|ddl`: tasks that were committed with somebody's data.

Exit status: 0 done; 1 rows are parked, or there is none of these ids; 2 an argument or a setting is wrong; 3 the broker
or the database is away; 130 a second Ctrl-C.
"""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NoReturn

import click

from shared.cli import ExitCode
from shared.errors import ConfigError

# What only these commands need is imported where it is used: every `celery` process, workers too, loads this module.

_FORMAT = click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)


@click.group()
@click.option("--database", metavar="URL", help="sqlite:///path, postgresql://user@host/name; else OUTBOX_URL")
@click.pass_context
def outbox(context: click.Context, database: str | None) -> None:
    """Tasks that were recorded in a database, and are published after its commit.

    The password stands in OUTBOX_PASSWORD, or in the file that OUTBOX_PASSWORD_FILE names.
    """
    from shared.outbox.store import Store

    if context.invoked_subcommand == "ddl":  # needs no database
        return
    settings = context.obj.app.settings
    url = database or settings.outbox_url
    if url is None:
        raise click.UsageError("say where the outbox is: --database URL, or OUTBOX_URL")
    secret = settings.outbox_password
    try:
        context.obj.outbox = Store(url, secret.get_secret_value() if secret else None)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


@outbox.command()
@click.option("--once", is_flag=True, help="publish what is due, and end")
@click.option("--batch", type=click.IntRange(min=1), default=100, show_default=True, help="rows claimed at once")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.01),
    default=1.0,
    show_default=True,
    help="seconds between two looks; PostgreSQL and SQLite tell of a commit sooner",
)
@click.option(
    "--lease",
    type=click.FloatRange(min=0.1),
    default=60.0,
    show_default=True,
    help="seconds after which the rows of a relay that died are published by another; three publishes long at least",
)
@click.pass_context
def relay(context: click.Context, once: bool, batch: int, interval: float, lease: float) -> None:
    """Publish what was committed, until SIGTERM. Any number of relays may run side by side."""
    from shared.outbox.relay import Relay, Stop

    logging.basicConfig(level=context.obj.app.settings.log_level, format="%(asctime)s %(levelname)s %(message)s")
    one = Relay(context.obj.app, context.obj.outbox, batch=batch, interval=interval, lease=lease)
    with _told():
        if not once:
            one.run()
            return
        try:
            one.drain()
        except Stop as error:
            _fail(ExitCode.UNREACHABLE, f"{one.published} were published; the rest waits: {error}")
    click.echo(f"{one.published} published, {one.parked} parked", err=True)
    sys.exit(ExitCode.FAILED if one.parked else ExitCode.OK)


@outbox.command("list")
@click.option("--parked/--waiting", default=None, help="those that were given up, or the others; both unless given")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="the oldest so many")
@_FORMAT
@click.pass_context
def list_(context: click.Context, parked: bool | None, limit: int, form: str) -> None:
    """What is not published yet, oldest first."""
    with _told():
        rows = context.obj.outbox.rows(parked, limit)
    if form == "json":
        click.echo(json.dumps([row.as_dict() for row in rows], indent=2))
        return
    for row in rows:
        state = "parked" if row.parked_at else "waits"
        when = datetime.fromtimestamp(row.created_at, UTC).isoformat(timespec="seconds")
        error = " ".join((row.error or "").split())
        click.echo(f"{row.position:8}  {state:6}  {when}  {row.attempts:2}  {row.task}[{row.task_id}]  {error}")
    click.echo(f"{len(rows)} rows", err=True)


@outbox.command()
@click.argument("ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="every row that is parked")
@click.pass_context
def retry(context: click.Context, ids: tuple[str, ...], everything: bool) -> None:
    """Have parked rows published again, by the ids of their tasks."""
    with _told():
        _report(context.obj.outbox.retry(_which(ids, everything)), ids, "wait to be published again")


@outbox.command()
@click.argument("ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="every row that is parked")
@click.option("--yes", is_flag=True, help="do not ask")
@click.pass_context
def drop(context: click.Context, ids: tuple[str, ...], everything: bool, yes: bool) -> None:
    """Remove parked rows for good, by the ids of their tasks."""
    chosen = _which(ids, everything)
    if not yes:
        click.confirm(f"Drop {'all parked rows' if chosen is None else len(chosen)} for good?", abort=True, err=True)
    with _told():
        _report(context.obj.outbox.drop(chosen), ids, "are gone")


@outbox.command()
@click.argument("dialect", type=click.Choice(["sqlite", "postgresql", "mysql"]))
def ddl(dialect: str) -> None:
    """Print the statement that makes the table."""
    from shared.outbox.table import ddl as statement

    click.echo(statement(dialect) + ";")


def _which(ids: tuple[str, ...], everything: bool) -> list[str] | None:
    if bool(ids) == everything:
        raise click.UsageError("say which: the ids of tasks, or --all")
    return None if everything else list(ids)


def _report(count: int, ids: tuple[str, ...], what: str) -> None:
    click.echo(f"{count} rows {what}")
    sys.exit(ExitCode.OK if count >= len(ids) else ExitCode.FAILED)


@contextmanager
def _told() -> Iterator[None]:
    from shared.outbox.store import DatabaseAway

    try:
        yield
    except DatabaseAway as error:
        _fail(ExitCode.UNREACHABLE, str(error))
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


def _fail(code: ExitCode, message: str) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)
