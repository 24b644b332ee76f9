"""The mailer beside a loop over one connection of `smtplib`, at mail servers of different pace.

What the mailer does for a mail and the loop does not: it takes it from the broker, claims it, marks it before its end,
records what the server said, keeps the result, tells Flower, and counts.
"""

import os
import re
import smtplib
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from redis import Redis

from bench.peers.servers import Servers, address, docker
from bench.waiting import PATIENCE, until
from bench.worker import worker
from services.mailer.message import Mail, encode
from shared.app import create_app
from shared.config import Settings
from shared.publish import publish_many
from shared.signatures import mailer

SENDER = "taskhouse@example.org"
TEXT = "Somebody has asked for this. " * 20
#: Says which mail server the local cluster has.
CATCHER = Path(__file__).parents[1] / "compose" / "mailcatcher.yaml"
#: Mails that are looked for together, in the order in which they were published.
TOGETHER = 50

#: Host and port.
_Place = tuple[str, int]


class MailServer(NamedTuple):
    """A mail server, and how many mails it gets."""

    name: str
    mails: int
    running: Callable[[], AbstractContextManager[_Place]]


@contextmanager
def sink(keeping: float) -> Iterator[_Place]:
    """One that takes so many seconds to keep a mail, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.smtp_sink", str(keeping)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield "127.0.0.1", int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(PATIENCE)


@contextmanager
def catcher() -> Iterator[_Place]:
    """That of the local cluster, in a container."""
    image = re.search(r"^ +image: (\S+)$", CATCHER.read_text(), re.MULTILINE)
    assert image is not None
    name = f"taskhouse-bench-mail-{os.getpid()}"
    try:
        docker("run", "--detach", f"--name={name}", "--publish=127.0.0.1::1025", image[1])
        published = docker("port", name, "1025").split()[0].rpartition(":")[2]
        host, _, port = address(name, 1025, int(published)).partition(":")
        until(lambda: _answers((host, int(port))), "the mail server answers")
        yield host, int(port)
    finally:
        subprocess.run(["docker", "rm", "-fv", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


SERVERS = (
    MailServer("takes no time", 1500, partial(sink, 0.0)),
    MailServer("is MailDev, as in the local cluster", 1500, catcher),
    # As one does that is reached over a network, and as one that writes a mail to a disk before it says so.
    MailServer("takes 2 ms", 1000, partial(sink, 0.002)),
    MailServer("takes 10 ms", 500, partial(sink, 0.01)),
)


def raw(server: MailServer) -> float:
    """Mails a second over one connection, in a loop that does nothing else."""
    mail = Mail("event", "notice", ("ada@example.org",), "A notice", TEXT)
    content = encode(mail, SENDER)
    with server.running() as (host, port), smtplib.SMTP(host, port, "bench") as connection:
        began = time.perf_counter()
        for _ in range(server.mails):
            connection.sendmail(SENDER, ["ada@example.org"], content)
        return server.mails / (time.perf_counter() - began)


def ours(server: MailServer, servers: Servers) -> float:
    """Mails a second of the mailer's worker, from when the first `TOGETHER` are done."""
    store = Redis.from_url(servers.redis)
    app = create_app(settings=Settings.load(servers.of("operator")), current=False)
    notices = [mailer.send_email([f"ada{number}@example.org"], "A notice", TEXT) for number in range(server.mails)]
    told = publish_many(notices, app=app)
    assert len(told.confirmed) == server.mails
    keys = [app.backend.get_key_for_task(one) for one in told.ids]
    app.close()
    with server.running() as (host, port):
        settings = {"SMTP_URL": f"smtp://{host}:{port}", "MAIL_FROM": SENDER}
        with worker(servers, "mailer", **settings):
            _wait(store, keys[:TOGETHER])
            began = time.perf_counter()
            for at in range(TOGETHER, len(keys), TOGETHER):
                _wait(store, keys[at : at + TOGETHER])
            return (server.mails - TOGETHER) / (time.perf_counter() - began)


def measure(servers: Servers, rounds: int) -> list[str]:
    """A table: medians of so many rounds, in turns."""
    lines = [
        "| mails a second, at a server that | one raw connection | the mailer | times |",
        "|---|---|---|---|",
    ]
    for server in SERVERS:
        taken = [(raw(server), ours(server, servers)) for _ in range(rounds)]
        one, other = (statistics.median(each) for each in zip(*taken, strict=True))
        lines.append(f"| {server.name} | {one:,.0f} | {other:,.0f} | {other / one:.2f} |")
    return lines


def _wait(store: Redis, keys: Sequence[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while store.exists(*keys) < len(keys):
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {PATIENCE:g} s: {len(keys)} mails")
        # Seldom enough to take nothing from what is measured.
        time.sleep(0.02)


def _answers(place: _Place) -> bool:
    try:
        with socket.create_connection(place, 1):
            return True
    except OSError:
        return False
