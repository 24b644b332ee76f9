"""The broker's own pace: frames are read off a socket and counted, nothing is decoded or run."""

import os
import time
from pathlib import Path
from struct import pack
from urllib.parse import urlsplit

from bench.peers import celery_peer
from bench.peers.peer import Peer
from shared.amqp_transport import AmqpConnection

PEERS = (
    Peer(
        "(the broker's own pace)",
        "broker_peer",
        "bench.peers.broker_peer",
        "rabbitmq",
        ("nothing",),
        more=3,
        note="frames read and counted, acknowledged every 100",
    ),
)
_DELIVER = b"\x00\x3c\x00\x3c"
send = celery_peer.send


def main() -> None:
    """Read what there is, and write how much it was a second."""
    url, wanted = urlsplit(os.environ["BENCH_RABBITMQ"]), int(os.environ["BENCH_TASKS"])
    connection = AmqpConnection(f"{url.hostname}:{url.port}", userid=url.username, password=url.password)
    connection.connect()
    channel = connection.channel()
    channel.basic_qos(0, 1000, False)
    done, began, wait = 0, 0.0, 30.0
    channel.basic_consume("bench", callback=lambda message: None)
    with connection.transport.having_timeout(wait):
        while done < wanted:
            _, _, frame = connection.transport.read_frame()
            if frame[:4] != _DELIVER:
                continue
            began = began or time.perf_counter()
            done += 1
            if done % 100 == 0 or done == wanted:
                payload = pack(">HHQB", 60, 80, done, 1)
                connection.transport.write(pack(">BHI", 1, channel.channel_id, len(payload)) + payload + b"\xce")
    Path(os.environ["BENCH_RATE"]).write_text(str((done - 1) / (time.perf_counter() - began)))


if __name__ == "__main__":
    main()
