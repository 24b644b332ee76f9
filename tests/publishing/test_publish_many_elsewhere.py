"""Many tasks published at once where there is no plain connection to RabbitMQ: over TLS, over Redis, without a server.

Over TLS frames are written as ever; elsewhere each goes by itself. The report is as exact, and what arrives the same.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord

from shared import scope
from shared.app import App
from shared.config import Settings
from shared.embedded.transport import Transport
from shared.errors import InvalidArguments
from shared.publish import publish_many
from shared.signatures import calculator
from shared.topology import MAX_MESSAGE_SIZE
from tests.publishing.between import Between
from tests.publishing.test_publish_many import OPTIONS, Cut, differences, exact, notes
from tests.publishing.test_publishing import within
from tests.servers import OwnBroker, OwnRedis
from tests.waiting import eventually

MakeApp = Callable[..., App]
ROOT = Path(__file__).parents[2]
#: Seconds. Longer than any delay here, so that Redis takes it.
VISIBILITY = 7200
SERVERS = [
    pytest.param("tls", marks=pytest.mark.containers),
    pytest.param("redis", marks=pytest.mark.containers),
]


@dataclass(frozen=True)
class Place:
    """Somewhere that tasks are published to.

    Attributes:
        app: of a publisher.
        worker: the settings of the calculator's worker there.
    """

    app: App
    worker: Mapping[str, str]
    folder: Path

    def arrived(self) -> list[Any]:
        """The messages in the calculator's queue, which are taken out."""
        found = []
        with self.app.connection_for_read() as connection:
            channel = connection.default_channel
            self.app.amqp.queues["calculator"](channel).queue_declare(passive=self.app.settings.declared_ahead)
            while (message := channel.basic_get("calculator", no_ack=True)) is not None:
                found.append(message)
        return found

    def ids(self) -> list[str]:
        """Of their tasks."""
        return [message.headers["id"] for message in self.arrived()]

    @contextmanager
    def working(self) -> Iterator[None]:
        """While a worker of the calculator runs."""
        health = self.folder / "health"
        command = [sys.executable, "-m", "celery", "-A", "services.calculator.app", "worker", "--queues=calculator"]
        command += ["--pool=solo", "--hostname=calculator@elsewhere", "--without-mingle", "--without-gossip"]
        environ = {**os.environ, **self.worker, "HEALTH_FILE": str(health)}
        with (self.folder / "log").open("wb") as log:
            worker = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
        try:
            eventually(lambda: health.exists() or worker.poll() is not None)
            assert health.exists(), (self.folder / "log").read_text()
            yield
        finally:
            worker.terminate()
            worker.wait(30)


@pytest.fixture
def make_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Makes one of a kind; over `way` if one is given, which leads to its server."""
    made: list[Place] = []

    def make(kind: str, way: Between | None = None, **settings: Any) -> Place:
        logs = {"TASK_LOG_DIR": str(tmp_path / "logs")}
        if kind == "embedded":
            Transport.global_state.clear()
            worker = {"LOCAL_DIR": str(tmp_path / "local")}
            create, known = request.getfixturevalue("make_embedded"), None
        else:
            known, worker = servers(request, kind)
            create = request.getfixturevalue("make_app")
            settings = known | {"publish_timeout": 20.0, "broker_visibility_timeout": VISIBILITY} | settings
            if way is not None:
                scheme, _, after = settings["broker_url"].partition("://")
                user, at, rest = after.rpartition("@")
                path = rest.partition("/")[2]
                settings["broker_url"] = f"{scheme}://{user}{at}{way.address}/{path}"
        place = Place(create(**settings), worker | logs, tmp_path)
        made.append(place)
        place.arrived()
        return place

    yield make
    if "tls" in str(request.node.callspec.id if hasattr(request.node, "callspec") else ""):
        # Everybody here has this broker.
        made[0].arrived()


def servers(request: pytest.FixtureRequest, kind: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings of a publisher and of a worker."""
    redis: OwnRedis = request.getfixturevalue("redis")
    if kind == "redis":
        both = {"BROKER_URL": redis.url.removesuffix("0") + "1", "REDIS_URL": redis.url}
        return Settings.load(both).model_dump(exclude_unset=True) | {"broker_password": None}, both
    broker: OwnBroker = request.getfixturevalue("broker")
    reads = {"BROKER_READS": "frames" if "frame" in kind else "pieces"}
    publisher, worker = (broker.user_over_tls(name, redis) | reads for name in ("operator", "calculator"))
    return Settings.load(publisher).model_dump(exclude_unset=True), worker


@pytest.fixture(params=["embedded", *SERVERS])
def place(request: pytest.FixtureRequest, make_place: Callable[..., Place]) -> Place:
    """Each of them."""
    return make_place(request.param)


def test_each_message_is_what_apply_async_sends(place: Place) -> None:
    # Given a task with each kind of option, in a scope. What is delayed RabbitMQ holds outside of the queue
    delayed = {"countdown", "half a second", "eta"} if place.app.settings.declared_ahead else set()
    kinds = {kind: {"task_id": kind, **options} for kind, options in OPTIONS.items() if kind not in delayed}
    with scope.scope(locale="fr", depth=1.5):
        signatures = [calculator.note(f'{kind} with "quotes" and €').set(**given) for kind, given in kinds.items()]
        for one in signatures:
            one.clone().apply_async()
        ordinary = {message.headers["id"]: message for message in place.arrived()}
        # When they are published at once
        told = publish_many(signatures, app=place.app)
    at_once = {message.headers["id"]: message for message in place.arrived()}
    # Then each is told, and each message is the same
    assert told.counts == {"confirmed": len(kinds)}
    assert at_once.keys() == ordinary.keys() == set(told.confirmed)
    for task_id, message in ordinary.items():
        assert differences(message, at_once[task_id]) == {}, task_id
    assert at_once["plain"].headers["scope"] == {"locale": "fr", "depth": 1.5}


def test_a_worker_runs_what_is_published(place: Place) -> None:
    # Given calls, some of them delayed, and canvases
    batch = [
        *(calculator.add(number, 1) for number in range(100)),
        calculator.add(1000, 1).set(countdown=1),
        chain(calculator.add(1, 2), calculator.add.s(3)),
        chord([calculator.add(1, 1), calculator.add(2, 2)], calculator.total.s()),
    ]
    moved: list[tuple[int, int]] = []
    told = publish_many(batch, app=place.app, progress=lambda done, of: moved.append((done, of)))
    assert told.counts == {"confirmed": 103} and not told.repeated
    assert moved[-1] == (103, 103)
    # Then each gives its result
    with place.working():
        results = [place.app.AsyncResult(task_id).get(timeout=30) for task_id in told.ids]
    assert results == [*range(1, 101), 1001, 6, 6]
    assert place.ids() == []


def test_what_is_wrong_with_one_is_told_of_it_alone(place: Place) -> None:
    # Given tasks that cannot be sent, among others; only RabbitMQ keeps what no service takes
    batch: list[Any] = notes(20)
    batch[3] = place.app.signature("calculator.other", args=(object(),))
    expected = {3: "not_sent"}
    if not place.app.settings.embedded:
        batch[7] = calculator.note("x" * MAX_MESSAGE_SIZE)
        expected[7] = "too_large"
    if place.app.settings.over_redis:
        batch[11] = place.app.signature("nobody.does_this")
        batch[15] = calculator.note("late").set(countdown=VISIBILITY)
        expected |= {11: "returned", 15: "not_sent"}
    told = publish_many(batch, app=place.app)
    assert {one.index: one.outcome for one in told.failed} == expected
    assert [one.id for one in told.failed] == [told.ids[index] for index in expected]
    # And the others are there
    assert place.ids() == list(told.confirmed)
    wrong = calculator.note("wrong")
    wrong.kwargs["about"] = 7
    with pytest.raises(InvalidArguments, match=r"signature 1: .*; nothing was sent"):
        publish_many([calculator.note("fine"), wrong], app=place.app)
    assert place.ids() == []


@pytest.mark.containers
@pytest.mark.parametrize(
    ("kind", "retry"),
    [("tls", True), ("tls, frame by frame", False), ("redis", True), ("redis", False)],
    ids=["tls", "tls, frame by frame, once", "redis", "redis, once"],
)
def test_a_server_that_is_gone_in_the_middle(make_place: Callable[..., Place], kind: str, retry: bool) -> None:
    # Given a way that ends after a hundred, with answers on their way
    there = make_place(kind)
    way = Between(_server(there))
    place = make_place(kind, way)

    def end() -> None:
        way.silence()
        way.close()

    with within(20.0):
        told = publish_many(notes(600), app=place.app, window=50, retry=retry, progress=Cut(100, end))
    # Then the report is exact, and not each of the others waits for nothing
    assert len(told.confirmed) >= 100 and told.counts["not_sent"] >= 400
    assert sum(told.counts.values()) == 600 and told.counts.get("unknown", 0) <= 50
    first = there.ids()
    exact(told, first)
    # And what is published again under its ids completes it
    assert publish_many(told.again(), app=there.app).counts == {"confirmed": len(told.failed)}
    assert set(first) | set(there.ids()) == set(told.ids)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_that_falls_silent(make_place: Callable[..., Place], kind: str) -> None:
    there = make_place(kind)
    way = Between(_server(there))
    place = make_place(kind, way, publish_timeout=1.0)
    with within(4.0):
        told = publish_many(notes(600), app=place.app, window=50, progress=Cut(100, way.silence))
    assert len(told.confirmed) >= 100 and told.counts["unknown"] <= 50
    assert told.counts["not_sent"] == 600 - len(told.confirmed) - told.counts["unknown"]
    way.speak()
    way.close()
    exact(told, there.ids())


@pytest.mark.parametrize("kind", SERVERS)
def test_what_may_be_there_twice_is_named(make_place: Callable[..., Place], kind: str) -> None:
    # Given a connection that breaks before its last answers, and another one to be had
    there = make_place(kind)
    way = Between(_server(there))
    place = make_place(kind, way)

    def cut() -> None:
        # Over Redis the first answer says who takes the message, and the next one that it is there.
        way.silent_after = 1
        way.cut_after(0.5)

    told = publish_many(notes(300), app=place.app, window=50, progress=Cut(100, cut))
    # Then all are confirmed, and those that arrived twice are told
    assert told.counts == {"confirmed": 300}
    there_now = there.ids()
    assert len(there_now) > 300
    exact(told, there_now)
    way.close()


@pytest.mark.containers
def test_a_redis_that_forgot_everything_still_gets_what_is_confirmed(
    make_place: Callable[..., Place], redis: OwnRedis
) -> None:
    # Given a publisher that has told Redis who takes what, and a Redis that has come back without its file
    place = make_place("redis")
    assert publish_many(notes(3), app=place.app).counts == {"confirmed": 3}
    redis.client.flushall()
    # When it publishes again, then what is confirmed is there
    told = publish_many(notes(5), app=place.app)
    assert told.counts == {"confirmed": 5}
    assert place.ids() == list(told.ids)


def test_a_folder_that_is_gone_in_the_middle(make_place: Callable[..., Place]) -> None:
    # Given messages that are files, and no folder for them any more
    place = make_place("embedded")
    folder = Path(place.app.conf.broker_transport_options["data_folder_in"])
    kept = folder.with_name("kept")

    def take_away() -> None:
        shutil.move(folder, kept)

    with within(8.0):
        told = publish_many(notes(500), app=place.app, progress=Cut(100, take_away))
    assert told.counts == {"confirmed": 100, "not_sent": 400}
    # When it is there again, then so is what was confirmed, and the rest can follow
    shutil.move(kept, folder)
    assert publish_many(told.again(), app=place.app).counts == {"confirmed": 400}
    assert place.ids() == list(told.ids)


def _server(place: Place) -> tuple[str, int]:
    with place.app.connection_for_read() as connection:
        return connection.hostname, connection.port
