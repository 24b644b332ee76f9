"""`celery -A shared.app dlq list|show|replay|drop`: what could not be done, over all services.

Exit status: 0 done; 1 some of the letters were refused or are in doubt; 2 an argument is wrong; 3 the broker or the
result store is away; 5 another command reads the same queue; 130 Ctrl-C.
"""

import json
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace as replace_fields
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import click

from shared.cli import ExitCode
from shared.errors import Error

# What only these commands need is imported where it is used: every `celery` process, workers too, loads this module.


def _age(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    from shared.dead_letters.selection import InvalidAge, seconds

    try:
        return None if value is None else seconds(value)
    except InvalidAge as error:
        raise click.BadParameter(str(error)) from None


_FILTERS = (
    click.option("--service", "services", multiple=True, help="of this service, or `unrouted`; all unless given"),
    click.option("--task", "tasks", multiple=True, help="of this name, or pattern: 'reporter.*'"),
    click.option("--reason", "reasons", multiple=True, help="failure, retries_exhausted, timeout, expired, ..."),
    click.option("--id", "ids", multiple=True, help="the task's id, or the beginning of the letter's key"),
    click.option("--older-than", callback=_age, metavar="AGE", help="given up so long ago, or longer: 90s 15m 2h 3d"),
    click.option("--newer-than", callback=_age, metavar="AGE", help="given up less than so long ago"),
)
_FORMAT = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="of what is printed",
)
_LIMIT = click.option("--limit", type=click.IntRange(min=1), help="so many letters at most, the oldest first")


def _filtered(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def _selection(filters: dict[str, Any]) -> Any:
    from shared.dead_letters.cause import Reason
    from shared.dead_letters.selection import Selection

    unknown = set(filters["reasons"]) - set(Reason)
    if unknown:
        raise click.UsageError(f"--reason: there is no {', '.join(sorted(unknown))}: choose of {', '.join(Reason)}")
    selection = Selection(**filters)
    try:
        selection.queues()
    except Error as error:
        raise click.UsageError(f"--service: {error}") from None
    return selection


@click.group()
@click.pass_context
def dlq(context: click.Context) -> None:
    """Dead letters: what could not be done, with its reason. Nothing is lost by looking."""
    if context.obj.app.settings.embedded:
        raise click.UsageError("without a broker there are no dead letters: set BROKER_URL and REDIS_URL")


@dlq.command("list")
@_filtered
@_LIMIT
@_FORMAT
@click.pass_context
def list_(context: click.Context, /, form: str, limit: int | None, **filters: Any) -> None:
    """The letters of all services, oldest first of each."""
    from shared.cli import dlq_view

    selection = _selection(filters)
    with _told():
        letters = []
        with closing(_look(context.obj.app, selection)) as found:
            for letter in islice(found, limit):
                # The body may be large, and a table does not show it.
                letters.append(letter if form == "json" else replace_fields(letter, body=b""))
    if form == "json":
        click.echo(json.dumps([letter.as_dict() for letter in letters], indent=2))
    else:
        dlq_view.table(letters)


@dlq.command()
@click.argument("id")
@_FORMAT
@click.pass_context
def show(context: click.Context, id: str, form: str) -> None:
    """All that is known of the letters of the task ID, or of the letter whose key begins so."""
    from shared.cli import dlq_view
    from shared.dead_letters.selection import Selection

    with _told():
        letters = list(_look(context.obj.app, Selection(ids=(id,))))
    if form == "json":
        click.echo(json.dumps([letter.as_dict() for letter in letters], indent=2))
    for letter in letters if form == "text" else ():
        dlq_view.details(letter)
    if not letters:
        _fail(ExitCode.FAILED, f"there is no dead letter of {id!r}: see `dlq list`")


@dlq.command()
@_filtered
@click.option("--all", "everything", is_flag=True, help="every letter; needed where no filter is given")
@_LIMIT
@click.option(
    "--batch",
    default=500,
    show_default=True,
    type=click.IntRange(min=1),
    help=("after so many, wait until fewer than so many tasks wait for the service"),
)
@click.option("--args", metavar="JSON", help="a list: positional arguments in place of the letter's")
@click.option("--kwargs", metavar="JSON", help="an object: keyword arguments in place of the letter's")
@click.option(
    "--in-doubt",
    type=click.Choice(["publish", "remove"]),
    help=(
        "of letters whose replay broke off, so that nobody knows whether the broker has them; they stay unless given"
    ),
)
@_FORMAT
@click.pass_context
def replay(
    context: click.Context,
    /,
    form: str,
    everything: bool,
    limit: int | None,
    batch: int,
    args: str | None,
    kwargs: str | None,
    in_doubt: str | None,
    **filters: Any,
) -> None:
    """Publish letters again, and remove each when the broker has confirmed it.

    After Ctrl-C the same command goes on with the rest. No letter is published twice, unless --in-doubt says so.
    """
    from shared.cli import dlq_work
    from shared.dead_letters.replay import Records, Replay

    app, selection = context.obj.app, _selection(filters)
    _narrowed(selection, everything)
    again = Replay(
        app, Records(app.backend.client), _json("--args", args, list), _json("--kwargs", kwargs, dict), in_doubt
    )
    with _told():
        done = dlq_work.replay(app, selection, again, limit=limit, batch=batch)
    _report(done, form)


@dlq.command()
@_filtered
@click.option("--all", "everything", is_flag=True, help="every letter; needed where no filter is given")
@_LIMIT
@click.option("--yes", is_flag=True, help="do not ask")
@click.option(
    "--export",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help=(
        "where the letters are appended before they are removed, as JSON lines; - prints them. "
        "Unless given: dropped-<time>.jsonl in $REPORTS_OUT, or here"
    ),
)
@_FORMAT
@click.pass_context
def drop(
    context: click.Context,
    /,
    form: str,
    everything: bool,
    limit: int | None,
    yes: bool,
    export: Path | None,
    **filters: Any,
) -> None:
    """Remove letters for good, after they were exported."""
    from shared.cli import dlq_work

    app, selection = context.obj.app, _selection(filters)
    _narrowed(selection, everything)
    with _told():
        found = [letter.key for letter in _look(app, selection)][:limit]
        if found and not yes:
            click.confirm(f"Drop {len(found)} dead letters for good?", abort=True, err=True)
        done = dlq_work.drop(app, selection, set(found), export or dlq_work.default_export())
    _report(done, form)


def _look(app: Any, selection: Any) -> Generator[Any, None, None]:
    from shared.dead_letters.shelf import shelf as opened

    for queue in selection.queues():
        with opened(app, queue) as shelf:
            yield from (letter for letter in shelf if letter in selection)


def _narrowed(selection: Any, everything: bool) -> None:
    if selection.everything and not everything:
        raise click.UsageError("say which: give a filter (--task, --reason, --id, ...), or --all for every letter")


def _json(option: str, text: str | None, kind: type[Any]) -> Any:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: this is no JSON: {error}") from None
    if not isinstance(value, kind):
        raise click.UsageError(f"{option}: give a JSON {'list' if kind is list else 'object'}")
    return value


def _report(done: Any, form: str) -> None:
    if form == "json":
        click.echo(json.dumps(done.as_dict(), indent=2), err=done.to_stderr)
    else:
        for line in done.lines():
            click.echo(line, err=done.to_stderr)
    sys.exit(ExitCode.INTERRUPTED if done.interrupted else ExitCode.FAILED if done.left else ExitCode.OK)


@contextmanager
def _told() -> Iterator[None]:
    """What can go wrong on the way, in one line and an exit code."""
    from amqp.exceptions import AMQPError
    from kombu.exceptions import OperationalError
    from redis.exceptions import RedisError

    from shared.dead_letters.shelf import Busy

    try:
        yield
    except Busy as error:
        _fail(ExitCode.BUSY, str(error))
    except RedisError as error:
        _fail(ExitCode.UNREACHABLE, f"the result store does not answer: {error}. Nothing more was done; try again")
    except (AMQPError, OperationalError, OSError) as error:
        _fail(ExitCode.UNREACHABLE, f"the broker does not answer: {error}. Nothing more was done; try again")


def _fail(code: ExitCode, message: str) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)
