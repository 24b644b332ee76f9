"""`celery -A shared.app trace ID`: what became of a canvas, by the id of any of its tasks."""

import json
import sys
from collections.abc import Callable
from typing import Any

import click

from shared.cli import ExitCode

# What only this command needs is imported where it is used: every `celery` process, workers too, loads this module.


@click.command()
@click.argument("id")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--lines", type=click.IntRange(min=0), default=5, show_default=True, help="of each task's log, the last ones"
)
@click.option("--no-dead-letters", is_flag=True, help="do not look through the dead-letter queues")
@click.pass_context
def trace(context: click.Context, id: str, form: str, lines: int, no_dead_letters: bool) -> None:
    """Show the tree of the canvas that ID is in: the id of any of its tasks, or of a group.

    Put together from the result store (a day long), the task logs and the dead letters; what one of them cannot be
    asked is said on stderr. Of a task that keeps no result its log tells, or nothing does.

    Exit status: 0 found, 1 nobody knows the id, 3 nobody knows it and a store did not answer.
    """
    from shared.cli import trace_view
    from shared.trace.sources import Known, Letters, Logs, Results, anchor_of
    from shared.trace.tree import build

    app, away = context.obj.app, _Away()
    settings = app.settings
    results = Results(app.backend)
    logs = Logs(settings.task_log_dir) if settings.task_log_dir else None
    letters = None if no_dead_letters or settings.embedded else Letters(app)
    if logs is None:
        away.say("TASK_LOG_DIR is not set: no log lines, and nothing of tasks that keep no result")
    anchor = away.ask("the result store", lambda: results.anchor(id)) or (logs.anchor(id) if logs else None)
    known = Known()
    if letters and anchor is None:
        # Only its dead letter may know to which canvas it belongs.
        anchor = next(map(anchor_of, away.ask("the broker", lambda: letters.of({id})) or ()), None)
    if anchor is None:
        click.echo(
            f"nobody knows {id}: no result (kept for a day), no task log and no dead letter has it. Its message may "
            "still wait in its queue",
            err=True,
        )
        sys.exit(ExitCode.UNREACHABLE if away.stores else ExitCode.FAILED)
    known.results = away.ask("the result store", lambda: results.canvas(anchor)) or {}
    known.lines = logs.canvas(anchor) if logs else []
    if letters:
        ids = {anchor, *known.results, *(line.id for line in known.lines)}
        known.letters = away.ask("the broker", lambda: letters.of(ids)) or []
    tree = build(anchor, known)
    if form == "json":
        click.echo(json.dumps(tree.as_dict(), indent=2))
    else:
        trace_view.show(tree, id, lines)


class _Away:
    """What could not be asked; each is said once."""

    def __init__(self) -> None:
        self.stores: set[str] = set()

    def say(self, message: str) -> None:
        click.echo(message, err=True)

    def ask(self, store: str, question: Callable[[], Any]) -> Any:
        """The answer; None where the store does not answer."""
        import sqlite3

        from amqp.exceptions import AMQPError
        from kombu.exceptions import OperationalError
        from redis.exceptions import RedisError

        from shared.dead_letters.shelf import Busy

        if store in self.stores:
            return None
        try:
            return question()
        except Busy as error:
            reason = f"dead letters are not shown: {error}"
        except (RedisError, AMQPError, OperationalError, sqlite3.Error, OSError) as error:
            reason = f"{store} does not answer, and what it knows is not shown: {error}"
        self.stores.add(store)
        self.say(reason)
        return None
