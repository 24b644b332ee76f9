"""`celery -A shared.app logs TASK_NAME|TASK_ID [-f]`: what a task wrote, wherever it ran."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from shared.cli import ExitCode
from shared.task_logs import file_name, log_files

#: Seconds between two looks for new lines.
INTERVAL = 0.2


@click.command()
@click.argument("task")
@click.option("--follow", "-f", is_flag=True, help="go on with what is written from now on, until Ctrl-C")
@click.pass_context
def logs(context: click.Context, task: str, follow: bool) -> None:
    """Print the log of a task by its name, or all that was written about one call, or one canvas, by its id.

    Exit status: 0 something was found, 1 nothing, 2 there is no TASK_LOG_DIR.
    """
    folder: Path | None = context.obj.app.settings.task_log_dir
    if folder is None:
        raise click.UsageError("TASK_LOG_DIR is not set: tasks write no logs of their own")
    by_name = (folder / file_name(task)).exists() or task in context.obj.app.tasks or "." in task
    found = False
    try:
        for line in _lines(folder, task, by_name, follow):
            found = True
            click.echo(line)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        sys.exit(ExitCode.OK)
    if not found:
        what = f"no {folder / file_name(task)}" if by_name else f"no line of a task {task} in {folder}"
        click.echo(f"{what}: was it ever taken by a worker that writes there?", err=True)
        sys.exit(ExitCode.FAILED)


def _lines(folder: Path, task: str, by_name: bool, follow: bool) -> Iterator[str]:
    tails: dict[Any, _Tail] = {}
    while True:
        fresh: list[str] = []
        for path in log_files(folder, task if by_name else None):
            try:
                status = path.stat()
                # A file that turns over goes on under another name.
                tail = tails.setdefault((status.st_dev, status.st_ino), _Tail())
                fresh.extend(tail.read(path))
            except FileNotFoundError:
                continue  # it turned over, or was removed, this very moment
        wanted = fresh if by_name else [line for line in fresh if _is_of(line, task)]
        # Each line begins with its time; lines of one file stay in their order.
        yield from sorted(wanted, key=lambda line: line[:24]) if not by_name else wanted
        if not follow:
            return
        time.sleep(INTERVAL)


class _Tail:
    """How far a file has been read."""

    def __init__(self) -> None:
        self.offset = 0

    def read(self, path: Path) -> list[str]:
        """The whole lines that were added."""
        with path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        return whole.decode("utf-8", "replace").splitlines()


def _is_of(line: str, task_id: str) -> bool:
    parts = line.split(" ", 12)
    return task_id in parts or f"root={task_id}" in parts
