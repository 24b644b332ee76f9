"""Publishers of a real broker, and ways to it that can be made bad."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import _state
from kombu import Connection

from shared import outbox
from shared.app import App, create_app
from shared.config import Settings
from shared.embedded.transport import Transport
from shared.topology import DELAY_BITS, delay_level
from tests.missing import missing
from tests.publishing.between import Between
from tests.publishing.databases import Database, postgres, postgres_folder
from tests.servers import OwnBroker, OwnRedis

#: Nobody may publish to the queue of the calculator here but the test that runs.
QUEUE = "calculator"
#: Starts `celery -A shared.app publish`.
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer has set does not reach a test."""
    for name in list(os.environ):
        if name.removesuffix("_FILE").lower() in Settings.model_fields or name.startswith("CELERY_"):
            monkeypatch.delenv(name)


@pytest.fixture
def way(broker: OwnBroker) -> Iterator[Between]:
    """A way to the broker."""
    between = Between(broker.address)
    yield between
    between.close()


@pytest.fixture
def make_app(broker: OwnBroker, redis_server: OwnRedis) -> Iterator[Callable[..., App]]:
    """Makes publishers, the operator unless told otherwise; `brokers` are addresses, tried one after the other."""
    made: list[App] = []
    current, default, environment = _state._tls.current_app, _state.default_app, dict(os.environ)

    def make(*brokers: str, user: str = "operator", **settings: Any) -> App:
        known = Settings.load(broker.user(user, redis_server)).model_dump(exclude_unset=True)
        if brokers:
            known["broker_url"] = ";".join(f"amqp://{user}@{address}//" for address in brokers)
        app = create_app(settings=Settings(**{**known, "publish_timeout": 8.0, **settings}))
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()
    _state._tls.current_app = current
    _state.set_default_app(default)
    os.environ.clear()
    os.environ.update(environment)


class Arrived:
    """What lies in a queue of the broker."""

    def __init__(self, url: str, queue: str, purge: bool = True) -> None:
        self.connection = Connection(url)
        self.channel = self.connection.channel()
        self.queue = queue
        if purge:
            self.channel.queue_purge(queue)

    def ids(self) -> list[str]:
        """The ids of the tasks in it, which are taken out."""
        found: list[str] = []
        channel = self.connection.channel()
        while self.count():
            tag = channel.basic_consume(
                self.queue, no_ack=True, callback=lambda message: found.append(message.headers["id"])
            )
            while self.count():
                self.connection.drain_events(timeout=10)
            channel.basic_cancel(tag)
        channel.close()
        return found

    def count(self) -> int:
        """How many messages it holds."""
        return int(self.channel.queue_declare(self.queue, passive=True).message_count)


@pytest.fixture
def arrived(broker: OwnBroker) -> Iterator[Arrived]:
    """What lies in the calculator's queue, which is empty at first."""
    seen = Arrived(broker.administrator(), QUEUE)
    yield seen
    seen.channel.queue_purge(QUEUE)
    # What is delayed for an hour would be found by others.
    for bit in range(DELAY_BITS):
        seen.channel.queue_purge(delay_level(bit))
    seen.connection.release()


@pytest.fixture
def start(broker: OwnBroker, redis_server: OwnRedis) -> Start:
    """Starts the command, over a way if one is given."""

    def start(*arguments: str, way: Between | None = None, **settings: str) -> "subprocess.Popen[str]":
        environ = {**os.environ, **broker.user("operator", redis_server), **settings}
        if way is not None:
            environ["BROKER_URL"] = f"amqp://operator@{way.address}//"
        command = [sys.executable, "-m", "celery", "-A", "shared.app", "publish", *arguments]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        # As a terminal starts it, also where these tests run in a shell's background, which has Ctrl-C ignored.
        return subprocess.Popen(command, env=environ, text=True, preexec_fn=_hear_ctrl_c, **pipes)

    return start


def _hear_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Started once; a laptop without PostgreSQL skips what needs it."""
    if postgres_folder() is None:
        missing("PostgreSQL is not installed: apt-get install postgresql")
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """A database with an empty outbox, and an empty table of orders."""
    if request.param == "sqlite":
        one = Database(f"sqlite:///{tmp_path / 'shop.sqlite'}")
    else:
        one = Database(request.getfixturevalue("postgres_url"))
        one.query("DROP TABLE IF EXISTS taskhouse_outbox, orders")
    connection = one.connect()
    outbox.create_table(connection)
    connection.execute("CREATE TABLE orders (task_id VARCHAR(255))")
    connection.commit()
    connection.close()
    return one


@pytest.fixture
def make_embedded(tmp_path: Path) -> Iterator[Callable[[], App]]:
    """Makes a publisher without a server."""
    made: list[App] = []
    current, default, environment = _state._tls.current_app, _state.default_app, dict(os.environ)

    def make() -> App:
        Transport.global_state.clear()
        made.append(create_app(settings=Settings(local_dir=tmp_path / "local")))
        return made[-1]

    yield make
    for app in made:
        app.close()
    _state._tls.current_app = current
    _state.set_default_app(default)
    os.environ.clear()
    os.environ.update(environment)
