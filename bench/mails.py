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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from redis import Redis

from bench import cpu
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
#: Where another is built, and what it is called.
POSTFIX = Path(__file__).parent / "postfix"
POSTFIX_IMAGE = "taskhouse/postfix:bench"
#: How fast it should be, as a part of the raw loop's pace.
BAR = 0.8
#: Mails that are looked for together, in the order in which they were published.
TOGETHER = 50


class Place(NamedTuple):
    """A mail server that runs.

    Attributes:
        processes: which are its own, now.
    """

    host: str
    port: int
    processes: Callable[[], Iterable[int]]


class Pace(NamedTuple):
    """How fast the mailer was, and why.

    Attributes:
        rate: mails a second.
        work: seconds of a core for a mail: of the worker, RabbitMQ, Redis, and the mail server.
    """

    rate: float
    work: tuple[float, ...]


class MailServer(NamedTuple):
    """A mail server, and how many mails it gets."""

    name: str
    mails: int
    running: Callable[[], AbstractContextManager[Place]]


@contextmanager
def sink(keeping: float) -> Iterator[Place]:
    """One that takes so many seconds to keep a mail, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.smtp_sink", str(keeping)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield Place("127.0.0.1", int(process.stdout.readline()), lambda: (process.pid,))
    finally:
        process.terminate()
        process.wait(PATIENCE)


@contextmanager
def catcher() -> Iterator[Place]:
    """That of the local cluster."""
    image = re.search(r"^ +image: (\S+)$", CATCHER.read_text(), re.MULTILINE)
    assert image is not None
    with _container(image[1], 1025) as place:
        yield place


@contextmanager
def postfix() -> Iterator[Place]:
    """One as companies run it, which has each mail on its disk before it says so."""
    docker("build", "--quiet", "--tag", POSTFIX_IMAGE, str(POSTFIX))
    with _container(POSTFIX_IMAGE, 25) as place:
        yield place


@contextmanager
def _container(image: str, port: int) -> Iterator[Place]:
    name = f"taskhouse-bench-mail-{os.getpid()}"
    try:
        docker("run", "--detach", f"--name={name}", f"--publish=127.0.0.1::{port}", image)
        published = docker("port", name, str(port)).split()[0].rpartition(":")[2]
        host, _, at = address(name, port, int(published)).partition(":")
        until(lambda: _answers((host, int(at))), "the mail server answers")
        yield Place(host, int(at), partial(cpu.of_container, name))
    finally:
        subprocess.run(["docker", "rm", "-fv", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


SERVERS = (
    MailServer("takes no time", 1500, partial(sink, 0.0)),
    MailServer("is MailDev, as in the local cluster", 1500, catcher),
    MailServer("is Postfix, and has it on its disk", 1000, postfix),
    # As one does that is reached over a network.
    MailServer("takes 2 ms", 1000, partial(sink, 0.002)),
    MailServer("takes 10 ms", 500, partial(sink, 0.01)),
)


def raw(server: MailServer) -> float:
    """Mails a second over one connection, in a loop that does nothing else."""
    mail = Mail("event", "notice", ("ada@example.org",), "A notice", TEXT)
    content = encode(mail, SENDER)
    with server.running() as place, smtplib.SMTP(place.host, place.port, "bench") as connection:
        began = time.perf_counter()
        for _ in range(server.mails):
            connection.sendmail(SENDER, ["ada@example.org"], content)
        return server.mails / (time.perf_counter() - began)


def ours(server: MailServer, servers: Servers) -> Pace:
    """That of the mailer's worker, from when the first `TOGETHER` are done."""
    store = Redis.from_url(servers.redis)
    app = create_app(settings=Settings.load(servers.of("operator")), current=False)
    notices = [mailer.send_email([f"ada{number}@example.org"], "A notice", TEXT) for number in range(server.mails)]
    told = publish_many(notices, app=app)
    assert len(told.confirmed) == server.mails
    keys = [app.backend.get_key_for_task(one) for one in told.ids]
    app.close()
    with server.running() as place:
        settings = {"SMTP_URL": f"smtp://{place.host}:{place.port}", "MAIL_FROM": SENDER}
        with worker(servers, "mailer", **settings) as process:
            parties: list[Callable[[], Iterable[int]]] = [
                partial(cpu.of_session, process.pid),
                *(partial(cpu.of_container, name) for name in servers.containers),
                place.processes,
            ]
            _wait(store, keys[:TOGETHER])
            before = [cpu.seconds(party()) for party in parties]
            began = time.perf_counter()
            for at in range(TOGETHER, len(keys), TOGETHER):
                _wait(store, keys[at : at + TOGETHER])
            mails = server.mails - TOGETHER
            rate = mails / (time.perf_counter() - began)
            worked = (cpu.seconds(party()) - had for party, had in zip(parties, before, strict=True))
            return Pace(rate, tuple(each / mails for each in worked))


def measure(servers: Servers, rounds: int) -> list[str]:
    """Two tables: medians of so many rounds, in turns."""
    rates = [
        "| mails a second, at a server that | one raw connection | the mailer | times |",
        "|---|---|---|---|",
    ]
    work = [
        "| ms of CPU for a mail, at a server that | worker | RabbitMQ | Redis | mail server | all | 0.8 times has |",
        "|---|---|---|---|---|---|---|",
    ]
    for server in SERVERS:
        taken = [(raw(server), ours(server, servers)) for _ in range(rounds)]
        one = statistics.median(rate for rate, _ in taken)
        other = statistics.median(pace.rate for _, pace in taken)
        rates.append(f"| {server.name} | {one:,.0f} | {other:,.0f} | {other / one:.2f} |")
        each = [statistics.median(party) * 1000 for party in zip(*(pace.work for _, pace in taken), strict=True)]
        there = (os.cpu_count() or 1) * 1000 / (BAR * one)
        told = " | ".join(f"{part:.2f}" for part in (*each, sum(each), there))
        work.append(f"| {server.name} | {told} |")
    return [*rates, "", *work]


def _wait(store: Redis, keys: Sequence[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while store.exists(*keys) < len(keys):
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {PATIENCE:g} s: {len(keys)} mails")
        # Seldom enough to take nothing from what is measured.
        time.sleep(0.02)


def _answers(place: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(place, 1):
            return True
    except OSError:
        return False
