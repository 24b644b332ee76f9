"""What a run found, as a page and as a picture."""

import os
import platform
import statistics
import time
from collections.abc import Mapping
from html import escape
from importlib.metadata import version
from pathlib import Path

from bench.peers.measure import COUNTS, Figure
from bench.peers.peer import Peer

#: By peer, workload and kind of queue.
Figures = Mapping[tuple[str, str, str], list[Figure]]

#: What the README shows.
PICTURE = Path(__file__).parents[2] / "docs" / "images" / "peers.svg"
TITLES = {
    "nothing": "Tasks that do nothing, a second",
    "payload": "1 kB argument and result, a second",
    "sleep": "10 ms of waiting, 100 at once, a second",
    "hash": "SHA-256 of 1 MB, a second",
    "publish": "Published with confirms, a second",
    "round_trip": "Round trip with result, ms (median)",
    "chord": "A chord of 100, ms",
}
_PACKAGES = "celery kombu dramatiq taskiq taskiq-aio-pika faststream rq arq huey".split()


def versions() -> str:
    """What is measured, with its versions."""
    return ", ".join(f"{name} {version(name)}" for name in _PACKAGES)


def page(figures: Figures, peers: list[Peer], rounds: int, short: bool, seconds: float, versions: str) -> str:
    """A page in Markdown, a table for each workload and kind of queue."""
    load = os.getloadavg()[0]
    fast = ", ".join(f"{peer.more} times as many for {peer.name}" for peer in peers if peer.more > 1)
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    parts = [
        f"# Peers, {time.strftime('%Y-%m-%d')}",
        f"One run of `python -m bench.peers` on one broker: {machine}, {rounds} interleaved rounds, "
        f"{seconds / 60:.0f} minutes, load at its end {load:.1f}. Median (least, most). "
        "One worker process each; RabbitMQ's messages are persistent, and acknowledged after the task. "
        "What stands on Redis is there for the record: it promises less. "
        f"{COUNTS['nothing'][short]:,} tasks that do nothing{fast and f', {fast}'}: so that it lasts for seconds.",
        f"Versions: {versions}.",
    ]
    if short:
        parts.insert(1, "**A short run, which shows that everything runs: its figures say nothing.**")
    found = {(workload, kind) for _, workload, kind in figures}
    lines = sorted(found, key=lambda one: (list(TITLES).index(one[0]), one[1]))
    for workload, kind in lines:
        parts.append(f"## {TITLES[workload]}: {kind}")
        parts.append(_table(figures, peers, workload, kind))
    return "\n\n".join(parts) + "\n"


def _table(figures: Figures, peers: list[Peer], workload: str, kind: str) -> str:
    rows = ["| peer | median (least, most) | times plain Celery | peak memory |", "|---|---|---|---|"]
    plain = figures.get(("Celery, solo", workload, kind)) or figures.get(("Celery, threads", workload, kind))
    for peer in peers:
        found = figures.get((peer.name, workload, kind))
        if not found:
            continue
        values = [one.value for one in found]
        middle, memory = statistics.median(values), max((one.memory or 0) for one in found)
        ratio = f"{middle / statistics.median([one.value for one in plain]):.2f}" if plain else ""
        note = f" ({peer.note})" if peer.note else ""
        megabytes = f"{memory / 2**20:.0f} MiB" if memory else ""
        figure = f"{_number(middle)} ({_number(min(values))}, {_number(max(values))})"
        rows.append(f"| {peer.name}{note} | {figure} | {ratio} | {megabytes} |")
    return "\n".join(rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def chart(figures: Figures, peers: list[Peer], workload: str, kind: str) -> str:
    """A bar for each peer, as SVG that is readable on a light and on a dark page."""
    found = [
        (one.name, statistics.median(figure.value for figure in figures[one.name, workload, kind]))
        for one in peers
        if (one.name, workload, kind) in figures
    ]
    found.sort(key=lambda one: -one[1])
    most = max((value for _, value in found), default=1.0)
    height = 40 + 26 * len(found)
    bars = []
    for number, (name, value) in enumerate(found):
        y, width = 40 + 26 * number, 380 * value / most
        ours = name.startswith("taskhouse")
        colour = "#2f81f7" if ours else "#8b949e"
        bars.append(
            f'<text x="190" y="{y + 14}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="200" y="{y}" width="{width:.1f}" height="18" rx="2" fill="{colour}"/>'
            f'<text x="{206 + width:.1f}" y="{y + 14}">{_number(value)}</text>'
        )
    style = "text{font:13px sans-serif;fill:#57606a}@media(prefers-color-scheme:dark){text{fill:#adbac7}}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 {height}" role="img"><style>{style}</style>'
        f'<text x="10" y="20" font-weight="bold">{escape(TITLES[workload])}, one process, {kind} queue</text>'
        f"{''.join(bars)}</svg>\n"
    )


def write(folder: Path, text: str, picture: str) -> Path:
    """The page under today's name in `folder`, and the README's picture; gives the page's path."""
    PICTURE.write_text(picture)
    target = folder / f"{time.strftime('%Y-%m-%d')}.md"
    target.write_text(text)
    return target
