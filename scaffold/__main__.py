"""`python -m scaffold new|remove NAME`: what `make new-service` and `make remove-service` run."""

from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from scaffold import tree
from scaffold.options import Options
from shared.errors import Error
from shared.spec import Pool

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def main() -> None:
    """Add a service to this repository, or take one away."""


def _option(name: str, text: str, **more: Any) -> Callable[[F], F]:
    # `make` hands its own variables on in the environment.
    variable = name.removeprefix("--").replace("-", "_").upper()
    return click.option(name, envvar=variable, help=f"{text} [{variable}]", **({"default": ""} | more))


@main.command()
@click.argument("name", envvar="NAME")
@_option("--summary", "one line for people")
@_option("--pool", "how it runs its tasks", type=click.Choice(get_args(Pool)), default="prefork")
@_option("--concurrency", "tasks at once: 4, or between two numbers, by load: 2-8", default="2-4")
@_option("--packages", "Python packages: pillow>=11")
@_option("--system-packages", "Debian packages of its image: libvips42t64")
@_option("--calls", "services whose tasks it publishes: mailer")
@_option("--egress", "what it reaches outside: s3, https, smtp, or host:port")
@_option("--gpus", "graphics processors of each pod, on Kubernetes", type=click.IntRange(min=0), default=0)
def new(name: str, **given: object) -> None:
    """Write the service NAME, and every file that follows from it. Where anything is wrong, nothing is written.

    Exit status: 0 done, 1 refused, with the reason.
    """
    try:
        written = tree.add(Options.read(name, **given))  # type: ignore[arg-type]
    except Error as error:
        raise click.ClickException(str(error)) from None
    for path in written:
        click.echo(f"written  {path}")
    click.echo(
        f"\nstart it:  docker compose up -d --wait {name}\n"
        f"ask it:    docker compose run --rm cli call {name}.example --wait\n"
        f"next:      shared/signatures/{name}.py says what it takes and gives, services/{name}/tasks.py what it does"
    )


@main.command()
@click.argument("name", envvar="NAME")
@click.option("--force", envvar="FORCE", is_flag=True, help="also what git does not have [FORCE]")
def remove(name: str, force: bool) -> None:
    """Take the service NAME away, and everything that followed from it.

    Exit status: 0 done, 1 refused, with the reason.
    """
    try:
        gone = tree.remove(name, force=force)
    except Error as error:
        raise click.ClickException(str(error)) from None
    for path in gone:
        click.echo(f"removed  {path}")
    click.echo(
        "\na running broker keeps its queues, and what waits in them: docs/adding-a-service.md says how to drop both"
    )


@main.command()
@click.argument("service", envvar="SERVICE")
@click.option("--debug", envvar="DEBUG", type=click.IntRange(1024, 65535), help="a port for a debugger [DEBUG]")
def dev(service: str, debug: int | None) -> None:
    """Run the worker of SERVICE on this machine, and start it anew at each change of its code; Ctrl-C ends it."""
    from scaffold.dev import run

    try:
        run(service, debug)
    except Error as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main(prog_name="python -m scaffold")
