"""Figures in docs/performance.md, between marks that name the command which measures them."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def replace(module: str, figures: str) -> None:
    """Put `figures` where those of `python -m <module>` stand.

    Raises:
        LookupError: the page has no such place.
    """
    before = f"<!-- figures of `python -m {module}`: changes here are lost -->\n"
    marks = re.compile(f"({re.escape(before)}).*?(<!-- end of figures -->)", flags=re.DOTALL)
    page, found = marks.subn(lambda match: f"{match[1]}{figures}\n{match[2]}", PAGE.read_text())
    if not found:
        raise LookupError(f"{PAGE.name} has no figures of `python -m {module}`")
    PAGE.write_text(page)


def command(module: str, about: str | None, measure: Callable[[], str]) -> None:
    """The command line of `python -m <module> [--write]`: print what `measure` gives, and put it into the page."""
    parser = argparse.ArgumentParser(prog=module, description=about)
    parser.add_argument("--write", action="store_true", help="replace the figures in docs/performance.md")
    given = parser.parse_args()
    figures = measure()
    print(figures)
    if given.write:
        replace(module, figures)
