"""What is known of a canvas, from each place that knows something: results, task logs, dead letters.

A canvas is known by its anchor: the id of the task that it began with. A group or chord that nothing came before began
with many, each of which is a first task to Celery; it is known by the group's id.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.dead_letters.letter import DeadLetter
from shared.task_logs import log_files

#: `<time> <level> <id> root=<id> attempt=<number> <text>`: see `shared.task_logs.lines`.
_LINE = re.compile(r"(\S+) (\S+) +(\S+) root=(\S+) attempt=(\d+) (.*)")
#: What a worker writes when a task has come, as `shared.task_logs` says it.
RECEIVED = re.compile(r"received queue=(\S+) worker=(\S+) parent=(\S+) group=(\S+)")


@dataclass(frozen=True)
class Line:
    """A line of a task's log.

    Attributes:
        task: the task's name.
        time: ISO 8601 in UTC.
        attempt: counted from 1.
    """

    task: str
    id: str
    root: str
    attempt: int
    time: str
    level: str
    text: str


@dataclass
class Known:
    """All that was found of one canvas.

    Attributes:
        results: what the store keeps, by the task's id, as it is stored.
        lines: of task logs, in the order of their time.
        letters: dead letters.
    """

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)


class Results:
    """The result store.

    Args:
        backend: of our own (`shared.results`), which keeps an index of each canvas.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def read(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """What is stored of each; nothing where nothing is. Raises the store's own errors."""
        ids = list(ids)
        if not ids:
            return {}
        stored = self._backend.mget([self._backend.get_key_for_task(one) for one in ids])
        return {one: self._backend.decode(value) for one, value in zip(ids, stored, strict=True) if value is not None}

    def family(self, task_id: str) -> list[str]:
        """Ids that were stored for the canvas, or the group, of this id."""
        return self._backend.family(task_id)

    def anchor(self, task_id: str) -> str | None:
        """What the canvas of this task, or group, is known by; None where nothing is known."""
        meta = self.read([task_id]).get(task_id)
        if meta is None and self.family(task_id):
            return task_id
        root = self._backend.first_of(task_id) if meta is None else meta.get("root_id") or task_id
        if root is None:
            return None
        first = meta if root == task_id else self.read([root]).get(root)
        return (first or {}).get("group_id") or root

    def canvas(self, anchor: str) -> dict[str, dict[str, Any]]:
        """All that is stored of a canvas."""
        found: dict[str, dict[str, Any]] = {}
        wanted, asked = {anchor, *self.family(anchor)}, set[str]()
        while wanted:
            asked |= wanted
            fresh = self.read(wanted)
            found |= fresh
            wanted = {child for meta in fresh.values() for child in children(meta)}
            # The parts of a group that is called by itself are each the first of what they call.
            for one, meta in fresh.items():
                wanted.update(self.family(one) if meta.get("root_id") == one else ())
            wanted -= asked
        return found


def children(meta: dict[str, Any]) -> Iterator[str]:
    """Ids of what the task has called, as its result lists them."""
    for told in meta.get("children") or ():
        yield from _ids(told)


def _ids(told: Any) -> Iterator[str]:
    # Celery's `AsyncResult.as_tuple`, as JSON: [[id, parent], null]; of a group: [[id, parent], [its members]].
    (one, parent), members = told
    if parent:
        yield from _ids(parent)
    if members is None:
        yield one
    for member in members or ():
        yield from _ids(member)


class Logs:
    """The folder of the task logs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def anchor(self, task_id: str) -> str | None:
        """What the canvas of this task, or group, is known by; None where no line names it."""
        group = f"group={task_id}"
        named = self._with({task_id}, lambda line: task_id in (line.id, line.root) or group in line.text.split())
        root = next((line.root for line in named), None)
        if root is None:
            return None
        for line in self._with({root}, lambda line: line.id == root):
            if match := RECEIVED.fullmatch(line.text):
                return root if match[4] == "-" else match[4]
        return root

    def canvas(self, anchor: str) -> list[Line]:
        """All that was written for a canvas, in the order of time."""
        group = f"group={anchor}"
        roots = {anchor, *(line.root for line in self._with({anchor}, lambda line: group in line.text.split()))}
        return sorted(self._with(roots, lambda line: line.root in roots), key=lambda line: line.time)

    def _with(self, words: set[str], wanted: Callable[[Line], bool]) -> Iterator[Line]:
        for path in log_files(self._folder):
            task = path.name.partition(".log")[0]
            try:
                with path.open(encoding="utf-8", errors="replace") as file:
                    for written in file:
                        # The whole folder is read: most lines are somebody else's.
                        if any(word in written for word in words) and (match := _LINE.fullmatch(written.rstrip("\n"))):
                            time, level, one, root, attempt, said = match.groups()
                            line = Line(task, one, root, int(attempt), time, level, said)
                            if wanted(line):
                                yield line
            except FileNotFoundError:
                continue  # it turned over, or was removed, this very moment


class Letters:
    """The dead-letter queues. To look into them is to take every letter, and put it back."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def of(self, ids: set[str]) -> list[DeadLetter]:
        """The letters of every task that is named so, or whose canvas, group or caller is.

        Raises:
            Busy: another command reads one of the queues; also the connection's own errors.
        """
        from shared.dead_letters.shelf import queues, shelf

        found = []
        for queue in queues():
            with shelf(self._app, queue) as letters, closing(iter(letters)) as each:  # type: ignore[type-var]
                found += [letter for letter in each if ids & _ids_of(letter)]
        return found


def _ids_of(letter: DeadLetter) -> set[Any]:
    headers = letter.headers
    named = (letter.id, headers.get("root_id"), headers.get("parent_id"), headers.get("group"))
    return {one for one in named if isinstance(one, str)}


def anchor_of(letter: DeadLetter) -> str:
    """What the canvas of the letter's task is known by."""
    root, group = letter.headers.get("root_id"), letter.headers.get("group")
    if isinstance(root, str) and root and root != letter.id:
        return root
    return group if isinstance(group, str) and group else letter.id
