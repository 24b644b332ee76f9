"""A commit and its task cannot diverge: relays that are killed, doubled, stopped, and left without a broker."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared import outbox
from shared.app import App
from shared.signatures import calculator
from tests.publishing.between import Between
from tests.publishing.conftest import Arrived
from tests.publishing.databases import Database
from tests.publishing.test_publishing import refused_port
from tests.servers import OwnBroker, OwnRedis
from tests.waiting import eventually

pytestmark = pytest.mark.containers

ROOT = Path(__file__).resolve().parents[2]
#: A relay that dies when the broker has confirmed its third task, and before it could say so to the database.
KILLED = """
import os, signal, sys
from shared.outbox.store import Store
done, count = Store.done, 0

def die(store, row):
    global count
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    done(store, row)

Store.done = die
from celery.__main__ import main
main()
"""


class Relays:
    """Relays as operators start them."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ
        self.running: list[subprocess.Popen[str]] = []

    def start(self, *options: str, script: str = "from celery.__main__ import main; main()") -> "subprocess.Popen[str]":
        """One more."""
        command = [sys.executable, "-c", script, "-A", "shared.app", "outbox", "relay", *options]
        one = subprocess.Popen(command, cwd=ROOT, env=self.environ, stderr=subprocess.PIPE, text=True)
        self.running.append(one)
        return one

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """`celery -A shared.app outbox` with these arguments."""
        command = [sys.executable, "-m", "celery", "-A", "shared.app", "outbox", *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.environ, capture_output=True, text=True, timeout=60)


@pytest.fixture
def start_relays(broker: OwnBroker, redis_server: OwnRedis, database: Database) -> Iterator[Callable[..., Relays]]:
    """Relays of the database."""
    made: list[Relays] = []

    def start(address: str | None = None) -> Relays:
        environ = {**os.environ, **broker.user("operator", redis_server)}
        # An attempt may take half of it, and is repeated after that: on a machine that has much to do, too.
        environ |= {"OUTBOX_URL": database.url, "PUBLISH_TIMEOUT": "30"}
        if address is not None:
            environ["BROKER_URL"] = f"amqp://operator@{address}//"
        made.append(Relays(environ))
        return made[-1]

    yield start
    for relays in made:
        for one in relays.running:
            one.kill()
            one.communicate()


def order(database: Database, count: int = 1, fails: bool = False) -> list[str]:
    """Orders, each with its task, in one transaction."""
    connection = database.connect()
    try:
        with connection:
            ids = [outbox.add(connection, calculator.note("a")) for _ in range(count)]
            for one in ids:
                connection.execute(f"INSERT INTO orders VALUES ('{one}')")
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    finally:
        connection.close()
    return ids


def diverging(database: Database, arrived: list[str]) -> set[str]:
    """The oracle: orders without a task, and tasks without an order."""
    return set(database.orders()) ^ set(arrived)


def careless(app: App, database: Database, fails: bool) -> None:
    """Without what is tested: the task is published inside the transaction."""
    connection = database.connect()
    try:
        with connection:
            task = app.send_task("calculator.note", ("a",), ignore_result=True)
            connection.execute(f"INSERT INTO orders VALUES ('{task.id}')")
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    finally:
        connection.close()


@pytest.mark.parametrize("way", ["outbox", "negative control"])
def test_what_committed_is_published_and_nothing_else(
    database: Database, start_relays: Callable[..., Relays], make_app: Callable[..., App], arrived: Arrived, way: str
) -> None:
    # Given transactions, of which some are rolled back
    fails = random.Random(5).choices([True, False], k=30)
    app = make_app()
    for one in fails:
        if way == "outbox":
            order(database, fails=one)
        else:
            careless(app, database, one)
    # When a relay has published all that there is
    done = start_relays().command("relay", "--once")
    assert done.returncode == 0, done.stderr
    # Then tasks and orders are the same; and the oracle sees where they are not
    published = arrived.ids()
    assert len(published) == len(set(published))
    assert len(diverging(database, published)) == (0 if way == "outbox" else sum(fails))


def test_a_relay_that_dies_before_it_could_say_so_loses_nothing(
    database: Database, start_relays: Callable[..., Relays], arrived: Arrived
) -> None:
    # Given a relay that is killed between the broker's confirmation and its own mark
    ids = order(database, 5)
    relays = start_relays()
    killed = relays.start(script=KILLED)
    assert killed.wait(60) == -signal.SIGKILL
    assert database.waiting() == ids[2:]
    # When its claim is over, another one publishes the rest
    assert relays.command("relay", "--once").returncode == 0 and database.waiting() == ids[2:]
    database.query("UPDATE taskhouse_outbox SET claimed_until = 1")
    relays.start("--interval", "0.2")
    eventually(lambda: database.waiting() == [])
    # Then all have arrived, in their order, and the one in question twice under its one id
    assert arrived.ids() == [*ids[:3], *ids[2:]]


def test_relays_side_by_side_publish_each_row_once(
    database: Database, start_relays: Callable[..., Relays], arrived: Arrived
) -> None:
    # Given two relays, and transactions while they work
    relays = start_relays()
    both = [relays.start("--batch", "7"), relays.start("--batch", "5")]
    ids = [one for _ in range(60) for one in order(database, 5)]
    eventually(lambda: database.waiting() == [], patience=120)
    # When they are told to stop, then they end well
    for one in both:
        one.send_signal(signal.SIGTERM)
    assert [one.wait(30) for one in both] == [0, 0]
    # And each task was published once
    assert sorted(arrived.ids()) == sorted(ids)


def test_sigterm_finishes_the_batch(
    database: Database, start_relays: Callable[..., Relays], way: Between, arrived: Arrived
) -> None:
    # Given a relay in the middle of a batch, over a way that is slow
    ids = order(database, 120)
    way.rate = 200_000
    one = start_relays(way.address).start("--batch", "100")
    eventually(lambda: arrived.count() > 0)
    # When it is told to stop
    one.send_signal(signal.SIGTERM)
    # Then the batch is published, the next one is left, and nothing is claimed
    assert one.wait(60) == 0
    assert arrived.ids() == ids[:100] and database.waiting() == ids[100:]
    assert database.query("SELECT COUNT(claimed_until) FROM taskhouse_outbox") == [(0,)]


def test_a_broker_that_was_away_gets_what_was_committed_meanwhile(
    database: Database, start_relays: Callable[..., Relays], broker: OwnBroker, arrived: Arrived
) -> None:
    # Given a broker that is away
    address = refused_port()
    relays = start_relays(address)
    relays.environ["PUBLISH_TIMEOUT"] = "2"
    # When something commits, nothing is lost and no row is to blame
    ids = order(database, 3)
    once = relays.command("relay", "--once")
    assert once.returncode == 3 and "cannot be reached" in once.stderr
    assert database.query("SELECT MAX(attempts) FROM taskhouse_outbox") == [(0,)]
    # And when the broker is back, the relay that waited for it publishes
    relays.start("--interval", "0.2")
    back = Between(broker.address, port=int(address.rpartition(":")[2]))
    eventually(lambda: database.waiting() == [])
    assert set(arrived.ids()) == set(ids)
    back.close()


def test_a_commit_wakes_the_relay(database: Database, start_relays: Callable[..., Relays], arrived: Arrived) -> None:
    # Given a relay that looks by itself only once in ten minutes, and has nothing to do
    relays = start_relays()
    relays.start("--interval", "600")
    order(database)
    eventually(lambda: database.waiting() == [])
    # When something commits, then it is published at once
    order(database)
    eventually(lambda: database.waiting() == [], patience=10)
    assert arrived.count() == 2


def test_a_relay_needs_no_result_store(
    database: Database, start_relays: Callable[..., Relays], broker: OwnBroker, arrived: Arrived
) -> None:
    # Given a task that keeps its result, and a result store that is away
    connection = database.connect()
    with connection:
        identity = outbox.add(connection, calculator.add(1, 2))
    connection.close()
    relays = start_relays()
    relays.environ["REDIS_URL"] = f"redis://{refused_port()}/0"
    # Then it is published all the same
    done = relays.command("relay", "--once")
    assert done.returncode == 0, done.stderr
    assert arrived.ids() == [identity]
