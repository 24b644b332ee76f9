"""What `dlq replay` and `dlq drop` do, letter by letter, with a bar."""

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from shared.dead_letters.letter import DeadLetter
from shared.dead_letters.replay import NotReplayable, Outcome, Replay, Unpublished
from shared.dead_letters.selection import Selection
from shared.dead_letters.shelf import Shelf
from shared.dead_letters.shelf import shelf as opened
from shared.errors import InvalidArguments
from shared.topology import UNROUTED_QUEUE

#: Seconds between two looks at a queue that is to become shorter.
INTERVAL = 0.5


@dataclass
class Done:
    """What a command did.

    Attributes:
        counts: letters by outcome.
        left: letters that stay, each with why.
        interrupted: Ctrl-C ended it early.
        to_stderr: stdout holds the letters themselves.
    """

    counts: Counter[str] = field(default_factory=Counter)
    left: list[dict[str, str]] = field(default_factory=list)
    interrupted: bool = False
    to_stderr: bool = False
    export: str | None = None

    def leave(self, outcome: str, letter: DeadLetter, why: str) -> None:
        """Count a letter that stays."""
        self.counts[outcome] += 1
        self.left.append({"key": letter.key, "id": letter.id, "task": letter.task, "outcome": outcome, "why": why})

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {**self.counts, "left": self.left, "interrupted": self.interrupted, "export": self.export}

    def lines(self) -> Iterator[str]:
        """For people."""
        for one in self.left:
            yield f"{one['outcome']}  {one['key'][:8]}  {one['task']}[{one['id']}]: {one['why']}"
        yield (
            ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in self.counts.items()) or "no letters"
        )
        if self.export:
            yield f"exported to {self.export}"
        if self.interrupted:
            yield "interrupted: the same command goes on with the rest"


def replay(app: Any, selection: Selection, again: Replay, *, limit: int | None, batch: int) -> Done:
    """Replay the selected letters. After each `batch` the service gets time to work."""
    done = Done()

    def one(letter: DeadLetter, shelf: Shelf) -> None:
        try:
            outcome = again(letter)
        except (NotReplayable, InvalidArguments, Unpublished) as error:
            done.leave(Outcome.REFUSED, letter, str(error))
            return
        if outcome == Outcome.IN_DOUBT:
            done.leave(outcome, letter, "a replay of it broke off: say --in-doubt publish, or remove")
            return
        shelf.remove(letter)
        done.counts[outcome] += 1

    _each(app, selection, one, done, limit=limit, batch=batch)
    return done


def drop(app: Any, selection: Selection, keys: set[str], export: Path) -> Done:
    """Export the letters with these keys, then remove them: each is on the disk before it leaves the broker."""
    done = Done(to_stderr=str(export) == "-", export=None if str(export) == "-" else str(export))
    with _lines(export) as file:

        def one(letter: DeadLetter, shelf: Shelf) -> None:
            if letter.key not in keys:  # it came after the question
                return
            file.write(json.dumps(letter.as_dict()) + "\n")
            file.flush()
            if file is not sys.stdout:
                os.fsync(file.fileno())
            shelf.remove(letter)
            done.counts["dropped"] += 1

        if keys:
            _each(app, selection, one, done)
    return done


def default_export() -> Path:
    """A file that is not there yet."""
    return Path(os.environ.get("REPORTS_OUT") or ".") / f"dropped-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl"


def _each(
    app: Any,
    selection: Selection,
    one: Callable[[DeadLetter, Shelf], None],
    done: Done,
    *,
    limit: int | None = None,
    batch: int | None = None,
) -> None:
    columns = (TextColumn("{task.description:20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    count = 0
    with _interruptible() as interrupted, Progress(*columns, console=Console(stderr=True)) as bars:
        for queue in selection.queues():
            with opened(app, queue) as shelf:
                bar = bars.add_task(queue, total=len(shelf), visible=len(shelf) > 0)
                for letter in shelf:
                    if interrupted() or count == limit:
                        break
                    if letter in selection:
                        one(letter, shelf)
                        count += 1
                        if batch and count % batch == 0:
                            _wait_for_room(shelf, batch, interrupted)
                    bars.advance(bar)
    done.interrupted = interrupted()


def _wait_for_room(shelf: Shelf, most: int, interrupted: Callable[[], bool]) -> None:
    """Until fewer than `most` messages wait in the service's queue; a flood of replays would hold up what is new."""
    if shelf.queue == UNROUTED_QUEUE:
        return
    work = shelf.queue.partition(".")[0]
    while not interrupted() and shelf.waiting(work) >= most:
        shelf.rest(INTERVAL)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C, and SIGTERM, end the work between two letters; a second one ends it at once."""
    asked = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _lines(path: Path) -> Iterator[TextIO]:
    if str(path) == "-":
        yield sys.stdout
    else:
        with path.open("a", encoding="utf-8") as file:
            yield file
