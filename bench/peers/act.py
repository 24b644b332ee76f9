"""What a peer's client does, in a process of its own: `python -m bench.peers.act MODULE WHAT COUNT [WORKLOAD]`.

Prints what it measured: messages a second, or milliseconds each.
"""

import importlib
import json
import statistics
import sys
import time

#: Parts of a chord.
PARTS = 100


def main(module: str, what: str, count: int, workload: str = "nothing") -> None:
    """Do it, and print."""
    peer = importlib.import_module(f"bench.peers.{module}")
    if what == "send":
        peer.send(workload, count)
    elif what == "publish":
        peer.publish(100)  # connects
        began = time.perf_counter()
        peer.publish(count)
        print(json.dumps(count / (time.perf_counter() - began)))
    else:
        times = []
        for number in range(-3, count):
            began = time.perf_counter()
            if what == "chord":
                peer.chord_of(PARTS)
            else:
                peer.call()
            if number >= 0:  # the first ones connect
                times.append(time.perf_counter() - began)
        print(json.dumps(statistics.median(times) * 1000))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
