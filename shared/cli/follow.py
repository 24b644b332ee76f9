"""Submit a task and show how far it is, until it has an answer."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

import click
from celery import Signature, states
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from shared.cli import ExitCode
from shared.results.progress import PROGRESS
from shared.signatures.reporter import ReportResult
from shared.topology import service

#: Seconds between two looks at the task's state.
INTERVAL = 0.1
#: Columns of the longest bar.
BAR_WIDTH = 40


def run(
    app: Any,
    signature: Signature,
    stages: Mapping[str, str],
    timeout: float,
    totals: Callable[[Any], Mapping[str, int]] = lambda result: {},
) -> Any:
    """Publish `signature` and give its result; on any failure end the process with a message and an exit code.

    Args:
        stages: what each stage of the task's progress counts, in their order; others are shown by their name.
        timeout: seconds.
        totals: from the result, how much there was of stages that went by too fast to be seen.
    """
    try:
        result = signature.apply_async()
    except (OperationalError, OSError, TimeoutError) as error:
        _fail(ExitCode.UNREACHABLE, f"the broker does not take the task: {error}. Is it up? See `make ps`")
    columns = (TextColumn("{task.description:14}"), BarColumn(BAR_WIDTH), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        # Bars go to stderr: what a command prints on stdout is its answer.
        with Progress(*columns, console=Console(stderr=True)) as bars:
            shown = {stage: bars.add_task(label, total=None) for stage, label in stages.items()}
            meta = _wait(app, result.id, lambda told: _advance(bars, shown, told), timeout)
            done = totals(meta["result"]) if meta["status"] == states.SUCCESS else {}
            for stage, bar in shown.items():
                total = bars.tasks[bar].total or done.get(stage)
                if meta["status"] == states.SUCCESS:
                    bars.update(bar, completed=total, total=total)
                bars.update(bar, visible=total is not None)
    except RedisError as error:
        _fail(ExitCode.UNREACHABLE, f"the result store does not answer: {error}. The task {result.id} goes on")
    if meta["status"] != states.SUCCESS:
        _fail(ExitCode.FAILED, f"the task {result.id} failed: {meta['result']}")
    return meta["result"]


@contextmanager
def worker(app: Any, name: str) -> Iterator[None]:
    """In embedded mode, the worker of the service `name`, for as long as the block lasts, unless one runs elsewhere."""
    from shared.embedded import worker

    spec, settings = service(name), app.settings
    elsewhere = not settings.embedded or worker.consuming(spec, settings)
    try:
        with nullcontext() if elsewhere else worker.running(spec, settings):
            yield
    except worker.WorkerDied as error:
        _fail(ExitCode.UNREACHABLE, str(error))


def describe(report: ReportResult, paths: list[str], *, to_stderr: bool) -> None:
    """Print the languages as a small table with bars, what is in the report, and where it is."""
    console = Console(stderr=to_stderr, soft_wrap=True)
    if report.languages:
        table = Table("language", "repositories", "", box=None, header_style="dim", pad_edge=False)
        table.columns[1].justify = "right"
        most = max(report.languages.values())
        for language, count in report.languages.items():
            table.add_row(language, str(count), "█" * max(1, round(count * BAR_WIDTH / most)))
        console.print(table)
    for warning in report.warnings:
        console.print(f"[yellow]{warning}[/yellow]", highlight=False)
    found = f"{report.repositories} repositories in {len(report.languages)} languages, {report.rows} rows"
    how = "was already there" if report.reused else f"took {report.seconds:.1f} s"
    console.print(f"{found}, {report.bytes} bytes; the report {how}", highlight=False)
    for path in paths:
        console.print(path, highlight=False, markup=False)


def _wait(app: Any, task_id: str, told: Any, timeout: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    while True:
        meta: dict[str, Any] = app.backend.get_task_meta(task_id)
        if meta["status"] in states.READY_STATES:
            return meta
        if meta["status"] == PROGRESS:
            told(meta["result"])
        if time.monotonic() > deadline:
            _fail(
                ExitCode.TIMEOUT,
                f"no answer from the task {task_id} within {timeout:g} s; it may still come. "
                "Does a worker consume its queue? See `make ps` and `make logs`",
            )
        time.sleep(INTERVAL)


def _advance(bars: Progress, shown: dict[str, Any], told: Mapping[str, Any]) -> None:
    if told["stage"] not in shown:
        shown[told["stage"]] = bars.add_task(told["stage"], total=None)
    bar = shown[told["stage"]]
    for earlier, other in shown.items():
        if earlier == told["stage"]:
            break
        bars.update(other, completed=bars.tasks[other].total or 0)
    bars.update(bar, completed=told["done"], total=told["total"])


def _fail(code: ExitCode, message: str) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)
