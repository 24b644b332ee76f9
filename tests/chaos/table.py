"""`python -m tests.chaos.table` writes the figures of tests/chaos/figures.json into docs/guarantees.md.

`--check` writes nothing, and fails where the page says something else.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.chaos.cases import CASES, NODES, Case

HERE = Path(__file__).resolve().parent
FIGURES = HERE / "figures.json"
PAGE = HERE.parents[1] / "docs/guarantees.md"
BEGIN, END = "<!-- figures of `make chaos`: changes here are lost -->", "<!-- end of figures -->"
HEAD = (
    "| case | what is done | must hold besides | confirmed | attempts an effect | recovery p50 / p99 | dead letters "
    "| measured besides | seed | without its guard |"
)


def render(figures: Mapping[str, Any]) -> str:
    """The table, and the line above it that says where the figures are from."""
    cases = figures["cases"]
    lines = [f"Measured on {figures['machine']}; {figures['versions']}.", "", HEAD, "|---" * HEAD.count(" |") + "|"]
    for case in (*CASES, *NODES):
        if case.name in cases:
            lines.append("| " + " | ".join(_cells(case, cases)) + " |")
    return "\n".join(lines)


def _cells(case: Case, cases: Mapping[str, Any]) -> Iterator[str]:
    figures = cases[case.name]
    form = "" if figures["form"] == "long" else " (short form)"
    times = f" × {figures['faults']}" if figures["faults"] > 1 else ""
    times += f", {figures['down']:g} s" if figures.get("down") else ""
    yield f"`{case.name}`{form}"
    yield f"{case.injection}{times}"
    yield case.passes
    yield f"{figures['confirmed']:,}"
    yield f"{figures['attempts_per_effect']:.3f}"
    yield f"{figures['recovery_p50']} / {figures['recovery_p99']} s" if figures["faults"] else ""
    yield ", ".join(f"{count} {reason}" for reason, count in sorted(figures["dead"].items()))
    besides = {"refused by the guard": figures["repelled"], **figures["notes"]}
    told = [f"{name}: {value:g}" for name, value in besides.items() if value]
    yield "; ".join([*(f"**{complaint}**" for complaint in figures["complaints"]), *told])
    yield f"{figures['seed']}, {figures['date']}"
    control = cases.get(f"{case.name} without {case.control.without}")
    yield _control(control["complaints"]) if control else "not played"


def _control(complaints: list[str]) -> str:
    kinds = [complaint.partition(":")[0] for complaint in complaints]
    return ", ".join(dict.fromkeys(kinds)) or "**passed**"


def main(check: bool) -> int:
    """Write the page, or compare it; gives the exit status."""
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    written = f"{before}{BEGIN}\n{render(json.loads(FIGURES.read_text('utf-8')))}\n{END}{after}"
    if check:
        return int(written != page)
    PAGE.write_text(written, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
