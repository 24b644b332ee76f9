"""The shipped services beside what cannot be had for less: one raw SMTP connection, the slowest answer of GitHub.

    python -m bench.shipped [--write] [--rounds 1]

It starts RabbitMQ and Redis itself, in Docker, and builds the images. Each service's worker runs as it is shipped, with
its metrics and its task logs on. With `--write` the figures in docs/performance.md are replaced.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis import Redis

from bench import cpu, images, mails, pages
from bench.peers.servers import Servers, running
from bench.waiting import PATIENCE
from bench.worker import worker
from shared.app import create_app
from shared.config import Settings
from shared.signatures import calculator, reporter
from shared.topology import PUBLISHERS, SERVICES
from tests.stand_ins.github import GitHubStandIn

#: Seconds that GitHub takes for a page.
PAGES = (1.0, 2.0)
#: Images without a worker of a service.
OTHERS = (*(spec.name for spec in PUBLISHERS), "beat", "flower", "cli")


def report(servers: Servers, latency: float) -> tuple[float, float]:
    """Seconds from the call to the result of a report, and of its slowest page."""
    store = Redis.from_url(servers.redis)
    with GitHubStandIn(latency=latency) as github, worker(servers, "reporter", GITHUB_API_URL=github.url):
        app = create_app(settings=Settings.load(servers.of("operator")), current=False)
        seconds = slowest = 0.0
        # The first fills what a worker fills once.
        for _ in range(2):
            store.flushall()
            begin = time.perf_counter()
            signature = app.signature(dict(reporter.produce_report("week", refresh=True)))
            signature.apply_async().get(timeout=PATIENCE)
            seconds = time.perf_counter() - begin
            stored: Iterator[Any] = (store.get(key) or b"" for key in store.scan_iter("*task-meta-*", _type="STRING"))
            kept = [json.loads(value) for value in stored if value.startswith(b"{")]
            slowest = max(one["ran"] for one in kept if one.get("name") == "reporter.fetch_repos")
        app.close()
        return seconds, slowest


def start(servers: Servers, name: str) -> tuple[float, float, float]:
    """Seconds to import what a worker needs, and from its start until it consumes; MiB that it has then."""
    imports = f"from services.{name}.app import app; app.loader.import_default_modules()"
    mail = {"SMTP_URL": "smtp://127.0.0.1:1", "MAIL_FROM": "taskhouse@example.org"}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", imports], env={**os.environ, **servers.of(name), **mail}, check=True)
    imported = time.perf_counter()
    with worker(servers, name, **mail) as process:
        return imported - began, time.perf_counter() - imported, _memory(process.pid)


def first_task(servers: Servers) -> float:
    """Seconds from the start of the calculator's worker to the result of a task that waits for it."""
    app = create_app(settings=Settings.load(servers.of("operator")), current=False)
    waiting = app.signature(dict(calculator.add(1, 2))).apply_async()
    begin = time.perf_counter()
    with worker(servers, "calculator"):
        waiting.get(timeout=PATIENCE)
        seconds = time.perf_counter() - begin
    app.close()
    return seconds


def _memory(leader: int) -> float:
    total = 0
    for pid in cpu.of_session(leader):
        with suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            total += int(found[1]) if found else 0
    return total / 1024


def measure(servers: Servers, rounds: int) -> str:
    """The figures as tables: medians of so many rounds."""
    lines = mails.measure(servers, rounds)
    lines += ["", "| a report whose pages take | its slowest page | the report | times |", "|---|---|---|---|"]
    for latency in PAGES:
        taken = [report(servers, latency) for _ in range(rounds)]
        seconds, slowest = (statistics.median(one) for one in zip(*taken, strict=True))
        lines.append(f"| {latency:g} s | {slowest:.2f} s | {seconds:.2f} s | {seconds / slowest:.2f} |")
    lines += ["", "| worker | imports | consumes after | memory, idle | image over its base |", "|---|---|---|---|---|"]
    sizes = {name: images.over_base(images.build(name)) for name in (*(spec.name for spec in SERVICES), *OTHERS)}
    for spec in SERVICES:
        started = [start(servers, spec.name) for _ in range(rounds)]
        imported, ready, memory = (statistics.median(one) for one in zip(*started, strict=True))
        size = sizes[spec.name]
        lines.append(f"| {spec.name} | {imported:.2f} s | {ready:.2f} s | {memory:.0f} MiB | {size:.0f} MiB |")
    others = ", ".join(f"{name} {sizes[name]:.0f} MiB" for name in OTHERS)
    process = statistics.median(first_task(servers) for _ in range(rounds))
    container = statistics.median(images.first_task(servers, images.build("calculator")) for _ in range(rounds))
    lines += [
        "",
        f"Other images over their base: {others}.",
        "",
        f"To the first result of the calculator: {process:.2f} s from the start of its worker, {container:.2f} s from "
        "`docker run` of its image.",
    ]
    return "\n".join([*lines, "", f"Measured on {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}."])


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(prog="bench.shipped", description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the figures in docs/performance.md")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    given = parser.parse_args()
    with running() as servers:
        figures = measure(servers, given.rounds)
    print(figures)
    if given.write:
        pages.replace("bench.shipped", figures)


if __name__ == "__main__":
    main()
