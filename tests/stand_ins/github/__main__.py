"""`python -m tests.stand_ins.github`: GitHub's repository search as a process of its own."""

import argparse
import signal
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from threading import Event

from tests.stand_ins.github.dataset import Repository, default_repositories, made_up_repositories, read_csv
from tests.stand_ins.github.server import GitHubStandIn


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.stand_ins.github", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--data", type=Path, metavar="FILE.csv", help="the repositories (default: see README.md)")
    data.add_argument("--seed", type=int, metavar="N", help="take made-up repositories, of this seed")
    parser.add_argument("--today", type=date.fromisoformat, metavar="YYYY-MM-DD", help="the day that ages count from")
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="before each answer")
    parser.add_argument("--rate-limits", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--port-file", type=Path, metavar="PATH", help="where to write the port, once it is open")
    parser.add_argument("--verbose", action="store_true", help="a line on stderr for each request")
    return parser.parse_args(argv)


def repositories(given: argparse.Namespace) -> tuple[Repository, ...]:
    if given.data is not None:
        return read_csv(given.data)
    return default_repositories() if given.seed is None else made_up_repositories(given.seed)


def main(argv: Sequence[str] | None = None) -> int:
    given = arguments(argv)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        stand_in = GitHubStandIn(
            repositories(given),
            host=given.host,
            port=given.port,
            today=given.today,
            latency=given.latency,
            rate_limits=given.rate_limits,
            verbose=given.verbose,
        )
    except (OSError, ValueError, OverflowError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 2
    with stand_in:
        if given.port_file:
            write_whole(given.port_file, stand_in.url.rpartition(":")[2])
        print(f"listening on {stand_in.url}", flush=True)
        stop.wait()
    return 0


def write_whole(path: Path, text: str) -> None:
    """A reader that polls for the file finds it whole or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(text, encoding="ascii")
    unfinished.replace(path)


if __name__ == "__main__":
    sys.exit(main())
