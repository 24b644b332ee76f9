"""`taskhouse`: the `celery` command as the images start it, `taskhouse -A services.mailer.app worker …`.

A worker gets Celery's worker command and no other. Celery imports all of its commands at once, with a shell that has
line editing, and those that other packages add, and keeps them in memory. Everything but a worker is left to Celery.
"""

import sys

import celery
from celery.__main__ import main as any_command


def main() -> None:
    """Do as `celery` does with the arguments of this process."""
    match sys.argv[1:]:
        case ["-A", name, "worker", *options]:
            _worker(name, options)
        case _:
            any_command()


def _worker(name: str, options: list[str]) -> None:
    # Before anything else is imported: gevent changes Python itself.
    celery.maybe_patch_concurrency()

    from celery.app.utils import find_app
    from celery.bin.base import CLIContext
    from celery.bin.worker import worker

    try:
        app = find_app(name)
    except (AttributeError, ModuleNotFoundError):
        # There is no such app. Celery has the words for it.
        any_command()
        return
    context = CLIContext(app=app, no_color=False, workdir=None)
    # The prefix is that of Celery's own variables: CELERY_WORKER_LOGLEVEL, and so on.
    worker.main(options, prog_name=f"celery -A {name} worker", obj=context, auto_envvar_prefix="CELERY_WORKER")
