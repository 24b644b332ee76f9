"""Dead letters on a terminal."""

import json
import sys
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.dead_letters.letter import DeadLetter

#: Characters of a key that tell letters apart in a list.
KEY = 8
#: Columns where there is no terminal to fit into.
WIDTH = 240


def table(letters: list[DeadLetter]) -> None:
    """A line a letter; how many there are of each reason goes to stderr."""
    now = datetime.now(UTC)
    shown = Table("key", "queue", "reason", "age", "attempts", "task", "id", "exception", box=None, header_style="dim")
    for column in shown.columns:
        column.no_wrap = True
    for letter in letters:
        cells = (letter.key[:KEY], letter.queue, letter.reason, age(letter.age(now)), str(letter.attempts))
        # As text, and not as markup: a letter may come from anybody.
        shown.add_row(*(Text(one_line(cell)) for cell in (*cells, letter.task, letter.id, letter.exception)))
    if letters:
        Console(width=None if sys.stdout.isatty() else WIDTH).print(shown)
    Console(stderr=True).print(f"{len(letters)} dead letters", highlight=False)


def details(letter: DeadLetter) -> None:
    """Everything, a field a line; the traceback and the arguments below."""
    fields = letter.as_dict()
    below = {name: fields.pop(name, None) for name in ("traceback", "payload", "body_base64", "headers", "properties")}
    for name, value in fields.items():
        print(f"{name:12} {one_line(str(value))}")
    for name, value in below.items():
        if value:
            text = value if isinstance(value, str) else json.dumps(value, indent=2)
            print(f"\n{name}\n{_printable(text)}")
    print()


def age(seconds: float) -> str:
    """`seconds` in the largest unit that it has one of."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def one_line(text: str) -> str:
    """`text`, which may come from anybody, without anything that commands a terminal."""
    return _printable(" ".join(text.split()))


def _printable(text: str) -> str:
    # A letter may come from anybody: it must not command the terminal.
    return "".join(one if one.isprintable() or one == "\n" else "\N{REPLACEMENT CHARACTER}" for one in text)
