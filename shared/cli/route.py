"""`celery -A shared.app route TASK_NAME` and `ping`: where a message goes, and who is there."""

import sys
from typing import Any

import click

from shared.cli import ExitCode
from shared.spec import EVERYONE
from shared.topology import DEAD_EXCHANGE, SERVICES, TASKS_EXCHANGE, UNROUTED_QUEUE, dead_letter_queue

#: Seconds that workers have to say what they consume.
PATIENCE = 2.0


@click.command()
@click.argument("task")
@click.option("--offline", is_flag=True, help="do not ask who consumes it now")
@click.pass_context
def route(context: click.Context, task: str, offline: bool) -> None:
    """Show the way of a task's message: exchange, routing key, queues, dead-letter queues, and who consumes it now.

    Exit status: 0 a service takes it, 1 none does, 3 the broker does not answer.
    """
    from shared.signatures import declarations

    app = context.obj.app
    queues = [spec.name for spec in SERVICES if task.partition(".")[0] in (spec.name, EVERYONE)]
    _line("task", task if task in declarations() else f"{task}  (not declared: only its name is known)")
    _line("exchange", f"{TASKS_EXCHANGE} (topic)")
    _line("routing key", task)
    if not queues:
        _line("queue", f"{UNROUTED_QUEUE}: no binding takes this key, so the message is kept there")
        sys.exit(ExitCode.FAILED)
    consumers = {} if offline else _consumers(app)
    for queue in queues:
        _line("queue", queue)
        _line("dead letters", f"{dead_letter_queue(queue)}, by the exchange {DEAD_EXCHANGE}")
        if not offline:
            _line("consumed by", ", ".join(consumers.get(queue, [])) or "nobody: messages wait")


@click.command()
@click.option("--timeout", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="seconds")
@click.pass_context
def ping(context: click.Context, timeout: float) -> None:
    """Send one message to every service, through its queue, and show who answers.

    Exit status: 0 all answered, 3 the broker does not answer, 4 a service did not answer in time.
    """
    from kombu.exceptions import OperationalError
    from redis.exceptions import RedisError

    from shared import everyone

    try:
        answers = everyone.ask(context.obj.app, timeout)
    except (OperationalError, RedisError, OSError) as error:
        click.echo(f"broker or result store does not answer: {error}", err=True)
        sys.exit(ExitCode.UNREACHABLE)
    for name, answer in answers.items():
        _line(name, f"{answer.worker}  {answer.seconds * 1000:.0f} ms" if answer else "no answer")
    if not all(answers.values()):
        sys.exit(ExitCode.TIMEOUT)


def _consumers(app: Any) -> dict[str, list[str]]:
    from kombu.exceptions import OperationalError

    try:
        told = app.control.inspect(timeout=PATIENCE).active_queues() or {}
    except (OperationalError, OSError) as error:
        click.echo(f"the broker does not answer: {error}", err=True)
        sys.exit(ExitCode.UNREACHABLE)
    consumers: dict[str, list[str]] = {}
    for worker, queues in sorted(told.items()):
        for queue in queues:
            consumers.setdefault(queue["name"], []).append(worker)
    return consumers


def _line(name: str, value: str) -> None:
    click.echo(f"{name:13} {value}")
