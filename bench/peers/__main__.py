"""Measure the peers in turns, each workload on a classic and on a quorum queue.

    make bench                                                         everything, and bench/results/<date>.md
    python -m bench.peers --only dramatiq --workload nothing           some lines again, printed
    python -m bench.peers --list                                       what there is

It runs in the environment of the bench, .cache/venv-bench, and starts RabbitMQ and Redis in Docker for itself.
"""

import argparse
import os
import sys
import time
from collections import defaultdict
from pathlib import Path

from bench.peers import report
from bench.peers.measure import COUNTS, Figure, measure
from bench.peers.peer import Peer, peers
from bench.peers.servers import running

ROUNDS = 3
FOLDER = Path(__file__).parents[1] / "results"
#: Workloads in which the kind of queue matters most; the others run on a quorum queue, as ours do.
BOTH_KINDS = ("nothing", "publish")


def main() -> None:
    """Measure, print, and write where everything was measured."""
    arguments = argparse.ArgumentParser(
        prog="bench.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--only", action="append", default=[], help="peers whose name begins so, in any case")
    arguments.add_argument("--workload", action="append", default=[], choices=list(COUNTS))
    arguments.add_argument("--queue", action="append", default=[], choices=["classic", "quorum"])
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    arguments.add_argument("--short", action="store_true", help="a few of each, to see that it runs")
    arguments.add_argument("--list", action="store_true", help="print what there is")
    arguments.add_argument(
        "--write", action="store_true", help=f"write {FOLDER.name}/<date>.md, and the README's picture"
    )
    given = arguments.parse_args()
    begins = tuple(map(str.lower, given.only)) or ("",)
    chosen = [one for one in _peers() if one.name.lower().startswith(begins)]
    if not chosen:
        arguments.error("--only names none of: " + "; ".join(one.name for one in _peers()))
    if given.list:
        for one in chosen:
            print(f"{one.name:26} {' '.join(one.can)}")
        return
    lines = [
        (peer, workload, kind)
        for workload in given.workload or COUNTS
        for kind in given.queue or (("classic", "quorum") if workload in BOTH_KINDS else ("quorum",))
        for peer in chosen
        if workload in peer.can and (peer.server == "rabbitmq" or kind == "quorum")
    ]
    began, figures, failed = time.monotonic(), defaultdict[tuple[str, str, str], list[Figure]](list), 0
    with running() as servers:
        for _ in range(given.rounds):
            for peer, workload, kind in lines:
                try:
                    figure = measure(peer, workload, kind, servers, given.short)
                except RuntimeError as error:
                    failed += 1
                    print(f"{peer.name}, {workload}, {kind}: {error}", file=sys.stderr)
                    continue
                figures[peer.name, workload, kind].append(figure)
                print(f"{peer.name:26} {workload:10} {kind:7} {figure.value:12,.1f}", file=sys.stderr, flush=True)
    text = report.page(figures, chosen, given.rounds, given.short, time.monotonic() - began, report.versions())
    print(text)
    if given.write:
        picture = report.chart(figures, chosen, "nothing", "quorum")
        print(f"written: {report.write(FOLDER, text, picture)}", file=sys.stderr)
    sys.exit(1 if failed or not figures else 0)


def _peers() -> list[Peer]:
    # Their modules read where the servers are when they are imported; here only their descriptions are wanted.
    os.environ.setdefault("BENCH_RABBITMQ", "amqp://nowhere")
    os.environ.setdefault("BENCH_REDIS", "redis://nowhere")
    return peers()


if __name__ == "__main__":
    main()
