"""`make dev SERVICE=reporter`: a service's worker on this machine, started anew at each change of its code."""

import os
import shlex
import sys
from collections.abc import Iterable

import click
from watchfiles import Change, PythonFilter, run_process

from scaffold.tree import ROOT
from shared.config import Settings
from shared.embedded.worker import health_file
from shared.render.worker import embedded_arguments
from shared.topology import service

#: Seconds that a worker may take to finish what it runs when its code has changed.
FINISH = 30


def command(name: str, debug: int | None) -> list[str]:
    """What is run: with `debug`, a debugger may attach at that port of the loopback, and one task runs at a time."""
    listen = ["-Xfrozen_modules=off", "-m", "debugpy", "--listen", f"127.0.0.1:{debug}"] if debug else []
    arguments = embedded_arguments(service(name), "solo" if debug else "threads")
    return [sys.executable, *listen, "-m", "celery", *arguments]


def run(name: str, debug: int | None) -> None:
    """Run it until Ctrl-C. Raises TopologyError where there is no such service, ConfigError for a setting."""
    settings = Settings.load(os.environ)
    os.environ["HEALTH_FILE"] = str(health_file(service(name), settings, "dev"))
    os.environ.setdefault("PYTHONPATH", str(ROOT))
    where = f"in {settings.local_dir.absolute()}, without a server" if settings.embedded else "at BROKER_URL"
    click.echo(f"{name} works {where}; in another terminal: celery -A shared.app call {name}.<task> --wait")
    if debug:
        click.echo(f"a debugger may attach at 127.0.0.1:{debug}")
    run_process(
        ROOT / "services" / name,
        ROOT / "shared",
        target=shlex.join(command(name, debug)),
        target_type="command",
        watch_filter=PythonFilter(),
        callback=_tell,
        sigint_timeout=FINISH,
    )


def _tell(changes: Iterable[tuple[Change, str]]) -> None:
    for _, path in sorted(changes, key=lambda one: one[1]):
        click.echo(f"changed  {os.path.relpath(path, ROOT)}")
