"""`celery -A shared.app top`: all services, live."""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from shared.cli import ExitCode

# What only this command needs is imported where it is used: every `celery` process, workers too, loads this module.


@click.command()
@click.option("--once", is_flag=True, help="look once, print it, and end")
@click.option(
    "--interval", type=click.FloatRange(min=0.5), default=2.0, show_default=True, help="seconds between two looks"
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def top(context: click.Context, once: bool, interval: float, form: str) -> None:
    """Show services, queues, rates, waits, failures and pools; on a terminal live, until q or Ctrl-C.

    Queues and rates are those of RabbitMQ's management API, at BROKER_API_URL, or beside the broker on port 15672
    (15671 with TLS). Where there is no terminal, each look is printed below the one before, as JSON an object a line.

    Exit status: 0 done, 2 there is no RabbitMQ, 3 it does not answer.
    """
    from functools import partial

    from shared.cli import top_view
    from shared.overview import Overview, Watcher, pools

    app = context.obj.app
    if not app.settings.declared_ahead:
        raise click.UsageError("top asks RabbitMQ, and BROKER_URL names none: see `dlq list` and `inspect active`")
    watcher = Watcher(_api(app.settings), partial(pools, app))

    def look() -> Overview:
        try:
            return watcher.look()
        except (OSError, ValueError) as error:
            raise Away(
                f"RabbitMQ's management API does not answer: {_reason(error)}. It is asked at BROKER_API_URL, or on "
                "the broker's host, port 15672 (15671 with TLS), as the user of BROKER_URL, who needs the tag "
                "`monitoring`"
            ) from error

    try:
        if once or not (form == "text" and sys.stdin.isatty() and sys.stdout.isatty()):
            _plain(look, once, interval, top_view.plain if form == "text" else _as_json)
        else:
            top_view.live(look, interval)
    except Away as error:
        click.echo(str(error), err=True)
        sys.exit(ExitCode.UNREACHABLE)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(ExitCode.OK)


class Away(Exception):
    """The management API does not answer; the message is for people."""


def _plain(look: Callable[[], Any], once: bool, interval: float, show: Callable[[Any], None]) -> None:
    while True:
        show(look())
        sys.stdout.flush()
        if once:
            return
        time.sleep(interval)


def _as_json(overview: Any) -> None:
    click.echo(json.dumps(overview.as_dict()))


def _api(settings: Any) -> Callable[[str], Any]:
    """Asks the first host that answers."""
    from shared.broker_api import Api, urls
    from shared.config import with_password

    given = os.environ.get("BROKER_API_URL")
    found = (with_password(given, settings.broker_password),) if given else urls(settings)
    apis = [Api(url, settings.tls_ca_file) for url in found]

    def ask(path: str) -> Any:
        for api in tuple(apis):
            try:
                return api.get(path)
            except OSError as error:
                last = error
                # The next question begins with another one.
                apis.append(apis.pop(0))
        raise last

    return ask


def _reason(error: Exception) -> str:
    # urllib's own text names what it is about; neither has a password in it.
    return str(getattr(error, "reason", None) or error)
