"""`celery -A shared.app publish TASK --from args.jsonl`: a task for each line of a file."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO
from uuid import UUID, uuid5

import click

from shared.cli import ExitCode

# What only this command needs is imported where it is used: every `celery` process, workers too, loads this module.

#: Of ids that follow from the name of a run and the number of a line.
_NAMESPACE = UUID("5f7a3f0e-2a0b-5c39-9d0f-0f6e2f6c7a10")
#: What a line's object holds that says more than the arguments.
_MORE = frozenset({"args", "kwargs", "id"})


@dataclass
class Line:
    """A line that was read, and the signature that it became.

    Attributes:
        number: of the line, from 1.
    """

    number: int
    signature: Any


@dataclass
class Done:
    """What became of the lines."""

    task: str
    counts: dict[str, int] = field(default_factory=dict)
    repeated: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)
    unconfirmed: str | None = None
    interrupted: bool = False

    def add(self, lines: list[Line], told: Any) -> None:
        """Count a batch."""
        for outcome, number in told.counts.items():
            self.counts[outcome] = self.counts.get(outcome, 0) + number
        self.repeated += len(told.repeated)
        for one in told.failed:
            line = lines[one.index]
            self.failed.append({"line": line.number, "id": one.id, "outcome": one.outcome, "why": str(one.error)})

    @property
    def status(self) -> ExitCode:
        """Of the process."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        if not self.failed:
            return ExitCode.OK
        nothing = not self.counts.get("confirmed") and all(one["outcome"] == "not_sent" for one in self.failed)
        return ExitCode.UNREACHABLE if nothing else ExitCode.FAILED


@click.command()
@click.argument("task")
@click.option("--from", "source", type=click.File(), required=True, metavar="FILE", help="a line a call; - reads stdin")
@click.option("--ids", metavar="NAME", help="ids that follow from NAME and the line's number; else random ones")
@click.option(
    "--unconfirmed",
    metavar="FILE",
    help="where lines go that were not confirmed, with their ids; FILE.unconfirmed unless given, nowhere for stdin",
)
@click.option("--countdown", type=click.FloatRange(min=0), help="seconds until a task may begin")
@click.option("--expires", type=click.FloatRange(min=0, min_open=True), help="seconds after which it is worth nothing")
@click.option("--priority", type=click.IntRange(0, 9), help="of the messages")
@click.option("--window", type=click.IntRange(min=1), default=1000, show_default=True, help="confirmed together")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="seconds; PUBLISH_TIMEOUT unless given")
@click.option("--batch", type=click.IntRange(min=1), help="lines checked before they are sent; a file's are all")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def publish(
    context: click.Context, /, task: str, source: TextIO, unconfirmed: str | None, form: str, **how: Any
) -> None:
    """Publish TASK once for each line: a list of arguments, an object of them by name, or {"args", "kwargs", "id"}.

    Every line of a file is checked against the task's signature before the first one is sent; stdin is checked and sent
    1,000 lines at a time. Lines that the broker did not confirm are written to a file, which can be published in turn,
    with the same options: each keeps its id.

    Exit status: 0 all confirmed, 1 some were not, 2 an argument or a line is wrong, 3 the broker is away and nothing
    was sent, 130 Ctrl-C.
    """
    from shared.signatures import declarations

    declared = declarations().get(task)
    if declared is None:
        raise click.UsageError(f"{task} is not declared: see `celery -A shared.app topology show`, shared/signatures")
    from_stdin = source.name == "<stdin>"
    target = Path(unconfirmed or f"{source.name}.unconfirmed") if unconfirmed or not from_stdin else None
    if target is not None and target.exists():
        raise click.UsageError(f"{target} is there, from an earlier run: publish it, or remove it, first")
    options = {name: how.pop(name) for name in ("countdown", "expires", "priority")}
    given = {name: value for name, value in options.items() if value is not None}
    size = how.pop("batch") or (1000 if from_stdin else None)
    lines = _lines(source, declared, how.pop("ids"), given)
    done = _run(context.obj.app, lines, size, Done(task), target, **how)
    click.echo(json.dumps(_as_dict(done), indent=2) if form == "json" else _as_text(done), err=form != "json")
    sys.exit(done.status)


def _run(app: Any, lines: Iterator[Line], size: int | None, done: Done, target: Path | None, **how: Any) -> Done:
    from shared.publish import bar, prepare, report

    sent = 0
    while True:
        try:
            batch_of = list(islice(lines, size))
        except click.UsageError as error:
            if not sent:
                raise
            message = f"{error.message}; the {sent} lines of the batches before were sent"
            raise click.UsageError(message) from None
        except KeyboardInterrupt:
            done.interrupted = True
            return done
        if not batch_of:
            return done
        with bar() if sys.stderr.isatty() else nullcontext() as progress:
            batch = prepare([line.signature for line in batch_of], app=app, progress=progress, **how)
            try:
                batch.run()
            except KeyboardInterrupt:
                done.interrupted = True
        told = report(batch)
        done.add(batch_of, told)
        sent += len(batch_of)
        if told.failed and target is not None:
            done.unconfirmed = str(target)
            _keep(target, told.again())
        if done.interrupted or (told.failed and done.status is ExitCode.UNREACHABLE):
            return done


def _lines(source: Iterable[str], declared: Any, name: str | None, options: dict[str, Any]) -> Iterator[Line]:
    """Each line as a signature of `declared`.

    Raises:
        click.UsageError: one is not; the message names its number.
    """
    seen: dict[str, int] = {}
    for number, text in enumerate(source, 1):
        if not text.strip():
            continue
        args, kwargs, task_id = _call(number, text, declared)
        try:
            signature = declared(*args, **kwargs)
        except ValueError as error:
            raise click.UsageError(f"line {number}: {error}; check it, then publish again") from None
        if task_id is None and name is not None:
            task_id = str(uuid5(_NAMESPACE, f"{declared.name}\n{name}\n{number}"))
        if task_id is not None:
            if seen.setdefault(task_id, number) != number:
                raise click.UsageError(f"lines {seen[task_id]} and {number} have one id, {task_id}")
            signature.options["task_id"] = task_id
        signature.options.update(options)
        yield Line(number, signature)


def _call(number: int, text: str, declared: Any) -> tuple[list[Any], dict[str, Any], str | None]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"line {number}: is no JSON: {error}") from None
    if isinstance(value, list):
        return value, {}, None
    if not isinstance(value, dict):
        raise click.UsageError(f"line {number}: must be a list or an object, but is {text.strip():.80}")
    if value and value.keys() <= _MORE and not _MORE & declared.parameters.keys():
        args, kwargs, task_id = value.get("args", []), value.get("kwargs", {}), value.get("id")
        if not (isinstance(args, list) and isinstance(kwargs, dict) and isinstance(task_id, str | None)):
            raise click.UsageError(f"line {number}: args must be a list, kwargs an object, and id a text")
        return args, kwargs, task_id
    return [], value, None


def _keep(target: Path, signatures: list[Any]) -> None:
    with target.open("a", encoding="utf-8") as file:
        for one in signatures:
            kept = {"args": list(one.args), "kwargs": dict(one.kwargs), "id": one.options["task_id"]}
            file.write(json.dumps(kept) + "\n")


def _as_dict(done: Done) -> dict[str, Any]:
    return {
        "task": done.task,
        "counts": done.counts,
        "repeated": done.repeated,
        "failed": done.failed,
        "unconfirmed": done.unconfirmed,
        "interrupted": done.interrupted,
    }


def _as_text(done: Done) -> str:
    lines = [f"line {one['line']}: {one['outcome']}: {one['why']}" for one in done.failed[:20]]
    if len(done.failed) > 20:
        lines.append(f"and {len(done.failed) - 20} more")
    counts = ", ".join(f"{number} {outcome}" for outcome, number in done.counts.items()) or "nothing to publish"
    lines.append(f"{done.task}: {counts}")
    if done.repeated:
        lines.append(f"{done.repeated} were sent more than once after a lost connection, each under one id")
    if done.unconfirmed:
        lines.append(f"what was not confirmed is in {done.unconfirmed}: publish that file, under the same ids")
    if done.interrupted:
        lines.append("interrupted")
    return "\n".join(lines)
