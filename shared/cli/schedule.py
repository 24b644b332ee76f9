"""`celery -A shared.app schedule list|add|remove`: what beat publishes, changed while it runs."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from shared.cli import ExitCode
from shared.errors import InvalidArguments
from shared.scope import HEADER, current, scope


@click.group()
@click.pass_context
def schedule(context: click.Context) -> None:
    """The schedule that beat follows. Entries live in Redis; beat takes changes over within ten seconds.

    Exit status: 0 done, 1 there is no such entry, 2 an argument is wrong, 3 Redis does not answer.
    """
    if context.obj.app.settings.embedded:
        raise click.UsageError("BROKER_URL and REDIS_URL are not set: the embedded mode keeps no schedule in Redis")


class _Json(click.ParamType[dict[str, Any]]):
    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, Mapping):
            return dict(value)
        try:
            parsed = json.loads(value)
        except ValueError as error:
            self.fail(f"{value!r} is no JSON: {error}", param, ctx)
        if not isinstance(parsed, dict):
            self.fail(f'{value!r} must be a JSON object, like {{"days": 1}}', param, ctx)
        return parsed


@schedule.command("list")
@click.pass_context
def list_(context: click.Context) -> None:
    """Print each entry: name, task, arguments, when, and when next."""
    with _redis():
        entries = _entries(context.obj.app)
    for entry in entries:
        scoped = (entry.options.get("headers") or {}).get(HEADER)
        click.echo(
            "  ".join(
                [
                    f"{entry.name:40}",
                    f"{entry.task}({json.dumps(entry.kwargs)})",
                    _when(entry.schedule),
                    f"next {entry.due_at:%Y-%m-%dT%H:%M:%SZ}",
                    *([f"scope {json.dumps(scoped)}"] if scoped else []),
                ]
            )
        )


@schedule.command()
@click.argument("name")
@click.argument("task")
@click.option("--crontab", help="five fields of crontab(5), in UTC")
@click.option("--every", type=click.FloatRange(min=1), help="seconds")
@click.option("--kwargs", type=_Json(), default="{}", help="the task's arguments, a JSON object")
@click.option("--scope", "scoped", type=_Json(), default="{}", help="the scope in which it runs, a JSON object")
@click.option("--expires", type=click.IntRange(min=1), help="seconds after which a tick that nobody took is dropped")
@click.pass_context
def add(
    context: click.Context,
    name: str,
    task: str,
    crontab: str | None,
    every: float | None,
    kwargs: dict[str, Any],
    scoped: dict[str, Any],
    expires: int | None,
) -> None:
    """Have beat publish TASK as the entry NAME; an entry of that name is changed.

    The arguments are checked against the task's declaration before anything is stored.
    """
    from redbeat import RedBeatSchedulerEntry

    app = context.obj.app
    if name in app.conf.beat_schedule:
        raise click.UsageError(f"{name} stands in shared/topology.py: change it there")
    when = _parse(crontab, every)
    options: dict[str, Any] = {"ignore_result": True, **({"expires": expires} if expires else {})}
    try:
        arguments = _declared(task)(**kwargs).kwargs
        with scope(**scoped):
            if values := current():
                options["headers"] = {HEADER: values}
    except InvalidArguments as error:
        raise click.UsageError(str(error)) from None
    with _redis():
        known = name in {entry.name for entry in _entries(app)}
        RedBeatSchedulerEntry(name, task, when, kwargs=arguments, options=options, app=app).save()
    click.echo(f"{'changed' if known else 'added'}  {name}")


@schedule.command()
@click.argument("name")
@click.pass_context
def remove(context: click.Context, name: str) -> None:
    """Remove the entry NAME."""
    app = context.obj.app
    if name in app.conf.beat_schedule:
        raise click.UsageError(f"{name} stands in shared/topology.py: remove it there")
    with _redis():
        found = [entry for entry in _entries(app) if entry.name == name]
        for entry in found:
            entry.delete()
    if not found:
        click.echo(f"there is no entry {name}: see `schedule list`", err=True)
        sys.exit(ExitCode.FAILED)
    click.echo(f"removed  {name}")


def _declared(task: str) -> Any:
    from shared.signatures import declarations

    try:
        return declarations()[task]
    except KeyError:
        known = ", ".join(declarations())
        raise click.UsageError(f"no task is called {task}: choose one of {known}") from None


def _parse(crontab: str | None, every: float | None) -> Any:
    from celery.schedules import crontab as Crontab
    from celery.schedules import schedule as Every

    if (crontab is None) == (every is None):
        raise click.UsageError("say when: either --crontab or --every")
    if every is not None:
        return Every(every)
    try:
        return Crontab.from_string(crontab)
    except ValueError as error:
        raise click.UsageError(f"--crontab: {error}") from None


def _entries(app: Any) -> list[Any]:
    from redbeat import RedBeatSchedulerEntry
    from redbeat.schedulers import ensure_conf, get_redis

    ensure_conf(app)
    client = get_redis(app)
    entries = []
    for key in client.zrange(app.redbeat_conf.schedule_key, 0, -1):
        try:
            entries.append(RedBeatSchedulerEntry.from_key(key, app=app))
        except KeyError:
            continue  # removed this very moment
    return sorted(entries, key=lambda entry: entry.name)


def _when(when: Any) -> str:
    fields = [getattr(when, f"_orig_{field}", None) for field in _FIELDS]
    return f"crontab {' '.join(map(str, fields))}" if all(fields) else f"every {when.run_every.total_seconds():g} s"


_FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")


@contextmanager
def _redis() -> Iterator[None]:
    """Turns an unreachable Redis into a message and an exit code."""
    from redis.exceptions import RedisError

    try:
        yield
    except (RedisError, OSError) as error:
        click.echo(f"Redis does not answer: {error}", err=True)
        sys.exit(ExitCode.UNREACHABLE)
