"""Many tasks published at once: each as one would be, and a report that is never wrong about what the broker has."""

import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import chain, chord, group, signals
from kombu import Connection, Exchange, Queue

from shared import scope
from shared.app import App
from shared.errors import InvalidArguments
from shared.metrics.declared import PUBLISHES
from shared.publish import Duplicate, Report, publish, publish_many
from shared.publish_batch import Batch
from shared.publishing import NotSent, Rejected, TooLarge, Unknown, Unroutable
from shared.signatures import calculator, scoped
from shared.topology import MAX_MESSAGE_SIZE
from tests.publishing.between import Between
from tests.publishing.conftest import Arrived
from tests.publishing.test_publishing import full, refused_port, within
from tests.servers import OwnBroker
from tests.waiting import eventually

pytestmark = pytest.mark.containers

MakeApp = Callable[..., App]
__all__ = ["full"]


def notes(count: int) -> list[Any]:
    """So many tasks whose results nobody keeps."""
    return [calculator.note(f"number {number}") for number in range(count)]


def warm(app: App) -> None:
    """Publish something, so that a connection is there."""
    publish_many(notes(1), app=app, timeout=60.0).raise_first()


class Cut:
    """Breaks a way when a batch has come so far."""

    def __init__(self, at: int, how: Callable[[], Any]) -> None:
        self.at, self.how, self.done = at, how, False

    def __call__(self, done: int, of: int) -> None:
        if done >= self.at and not self.done:
            self.done = True
            self.how()


# --- What is sent -----------------------------------------------------------------------------------------------------


def test_ten_thousand_are_confirmed_and_each_arrives_once(make_app: MakeApp, arrived: Arrived) -> None:
    app = make_app(publish_timeout=60.0)
    told = publish_many(notes(10_000), app=app)
    assert told.counts == {"confirmed": 10_000}
    assert arrived.ids() == list(told.ids) == list(told.confirmed)


SOON = datetime.now(UTC) + timedelta(hours=1)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "priority": {"priority": 5},
    "expires": {"expires": 3600},
    "expires at": {"expires": SOON},
    # Long enough that none arrives while another test looks into the queue.
    "countdown": {"countdown": 3600},
    "half a second": {"countdown": 3599.5},
    "eta": {"eta": SOON},
    "packed": {"compression": "zlib"},
    "msgpack": {"serializer": "plain-msgpack"},
    "headers": {"headers": {"mine": "x", "many": [1, 2.5, None]}},
    "link": {"link": [calculator.note.s()], "link_error": [calculator.note.s()]},
    "limits": {"time_limit": 10, "soft_time_limit": 5},
    "shown otherwise": {"argsrepr": "secret", "kwargsrepr": "secret"},
    "a short id": {"task_id": "1"},
    "a long id": {"task_id": "x" * 255},
}
#: When it was made, and for how long: two messages differ in these.
TIMES = ("first_published", "due", "eta", "expires")
SPANS = ("timestamp", "expiration")


def differences(one: Any, other: Any) -> dict[str, Any]:
    """What two messages do not have in common, but for their times, which may differ by seconds."""
    found = {}
    for what in ("headers", "properties", "delivery_info"):
        mine, others = dict(getattr(one, what)), dict(getattr(other, what))
        for key in (mine.keys() | others.keys()) - {"application_headers", "message_count", "delivery_tag"}:
            a, b = mine.get(key), others.get(key)
            if a != b and not (a and b and abs(seconds(key, a) - seconds(key, b)) < 5):
                found[f"{what}.{key}"] = a, b
    if one.body != other.body:
        found["body"] = one.body, other.body
    return found


def seconds(key: str, value: Any) -> float:
    """Of what says a time; infinite where it is none."""
    if key in TIMES:
        return datetime.fromisoformat(value).timestamp()
    if key == "routing_key" and (delay := re.match(r"(?:[01]\.){28}", value)):
        return float(int(delay[0].replace(".", ""), 2))
    return {"timestamp": 1.0, "expiration": 0.001}.get(key, math.inf) * float(value if key in SPANS else 1)


@pytest.fixture
def caught(broker: OwnBroker) -> Iterator[Callable[[], list[Any]]]:
    """Whatever is published to the calculator, delayed too."""
    with Connection(broker.administrator()) as connection:
        channel = connection.channel()
        queue = Queue("caught", exclusive=True)(channel)
        queue.declare()
        for exchange in ("tasks", "celery_delayed_27"):
            queue.bind_to(Exchange(exchange, type="topic"), routing_key="#")

        def take() -> list[Any]:
            found = []
            while (message := channel.basic_get("caught", no_ack=True)) is not None:
                found.append(message)
            return found

        yield take


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("listened", [False, True], ids=["nobody listens", "somebody listens"])
def test_each_message_is_what_apply_async_sends(
    make_app: MakeApp, caught: Callable[[], list[Any]], arrived: Arrived, kind: str, listened: bool
) -> None:
    # Given a call with options, in a scope
    app = make_app()
    given = {"task_id": "an-id", **OPTIONS[kind]}
    heard: list[dict[str, Any]] = []

    def hear(**told: Any) -> None:
        heard.append(told)

    if listened:
        signals.before_task_publish.connect(hear)
        signals.after_task_publish.connect(hear)
    try:
        with scope.scope(locale="fr", depth=1.5):
            signatures = [
                calculator.note('with "quotes" and € and \\').set(**given),
                calculator.note.s("by place").set(**{**given, "task_id": "another"}),
                calculator.add(1, 2.5).set(**{**given, "task_id": "a third"}),
            ]
            for one in signatures:
                one.clone().apply_async(app=app)
            ordinary, heard_then = caught(), list(heard)
            heard.clear()
            # When it is published with others at once
            publish_many(signatures, app=app).raise_first()
        at_once = caught()
    finally:
        signals.before_task_publish.disconnect(hear)
        signals.after_task_publish.disconnect(hear)
    # Then each message is the same, and whoever listens hears the same
    assert len(ordinary) == len(at_once) == 3
    for one, other in zip(ordinary, at_once, strict=True):
        assert differences(one, other) == {}
    assert at_once[0].headers["scope"] == {"locale": "fr", "depth": 1.5}
    names = [(one["sender"], one["signal"].name, one["routing_key"]) for one in heard]
    assert sorted(names) == sorted((one["sender"], one["signal"].name, one["routing_key"]) for one in heard_then)
    assert bool(names) is listened


def test_canvases_in_a_batch_go_as_they_always_do(make_app: MakeApp, arrived: Arrived) -> None:
    app = make_app(publish_timeout=20.0)
    batch = [
        calculator.note("first"),
        chain(calculator.note("a"), calculator.note.si("b")),
        group(calculator.note("c"), calculator.note("d")),
        chord([calculator.add(1, 1), calculator.add(2, 2)], calculator.total.s()),
        calculator.note.map(["e", "f"]),
        calculator.note("last"),
    ]
    assert publish_many(batch, app=app).counts == {"confirmed": 6}
    assert arrived.count() == 8


def test_flower_hears_of_each(make_app: MakeApp, arrived: Arrived, broker: OwnBroker) -> None:
    # Given somebody who listens, as Flower does
    app = make_app()
    with Connection(broker.administrator()) as connection:
        heard: list[dict[str, Any]] = []
        channel = connection.channel()
        receiver = app.events.Receiver(channel, handlers={"task-sent": heard.append})
        receiver.queue.exchange.no_declare = True
        with app.amqp.Consumer(channel, queues=[receiver.queue], callbacks=[receiver._receive], no_ack=True):
            # When many are published at once
            told = publish_many([*notes(450), calculator.add(1, 2).set(countdown=3600)], app=app)
            # Then each is heard of
            while len(heard) < 451:
                connection.drain_events(timeout=20)
    assert {one["uuid"] for one in heard} == set(told.ids)
    assert heard[0]["name"] == "calculator.note" and heard[0]["kwargs"] == "{'about': 'number 0'}"


def test_publishes_are_counted_by_what_became_of_them(
    make_app: MakeApp, arrived: Arrived, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: Counter[tuple[str, ...]] = Counter()
    monkeypatch.setattr(PUBLISHES, "inc", lambda *labels, by=1: counted.update({labels: by}))
    large = calculator.note("x" * (MAX_MESSAGE_SIZE + 1))
    told = publish_many([*notes(20), large, chain(calculator.note("a"))], app=make_app())
    assert told.counts == {"confirmed": 21, "too_large": 1}
    assert counted == {("calculator", "confirmed"): 21, ("calculator", "too_large"): 1}


def test_one_is_published_like_many(make_app: MakeApp, arrived: Arrived) -> None:
    app = make_app(publish_timeout=60.0)
    result = publish(calculator.note("one"), app=app, task_id="mine")
    assert arrived.ids() == [result.id] == ["mine"]
    # And what is refused here waits for nobody
    with within(5.0), pytest.raises(TooLarge, match="MAX_MESSAGE_SIZE"):
        publish(calculator.note("x" * (MAX_MESSAGE_SIZE + 1)), app=app)


# --- What is wrong is told before -------------------------------------------------------------------------------------


def test_one_wrong_signature_among_many_is_named_before_anything_is_sent(make_app: MakeApp, way: Between) -> None:
    app = make_app(way.address)
    batch = notes(100)
    batch[41].kwargs["about"] = 7
    with pytest.raises(InvalidArguments, match=r"signature 41: calculator\.note: about: .*; nothing was sent"):
        publish_many(batch, app=app)
    with pytest.raises(InvalidArguments, match=r"signature 0: calculator\.add: missing"):
        publish_many([calculator.add.s(1)], app=app)
    assert way.connections == 0


def test_two_with_one_id_are_named_before_anything_is_sent(make_app: MakeApp, way: Between) -> None:
    batch = [one.set(task_id=f"id {number % 7}") for number, one in enumerate(notes(9))]
    with pytest.raises(Duplicate, match="signatures 0 and 7 have one id, id 0"):
        publish_many(batch, app=make_app(way.address))
    assert way.connections == 0


# --- What the broker does not take ------------------------------------------------------------------------------------


def test_what_a_full_queue_refuses_is_told(make_app: MakeApp, full: str) -> None:
    # Given a queue that takes one message
    app = make_app(publish_timeout=8.0)
    batch = [app.signature(full).set(task_id=str(number)) for number in range(200)]
    told = publish_many(batch, app=app, retry_policy={"max_retries": 1})
    # Then those that it refused are told, and they are not there
    assert told.counts["confirmed"] + told.counts["rejected"] == 200
    assert all(isinstance(one.error, Rejected) and one.error.passing for one in told.failed)
    with app.connection_for_read() as connection:
        assert connection.default_channel.queue_declare("full", passive=True).message_count == len(told.confirmed)


def test_what_no_queue_takes_is_told(make_app: MakeApp, broker: OwnBroker, arrived: Arrived) -> None:
    with Connection(broker.administrator()) as connection:
        Exchange("nowhere", type="topic", durable=False)(connection.channel()).declare()
        app = make_app(broker_url=broker.administrator(), broker_password=None)
        batch = notes(300)
        for lost in (0, 150, 299):
            batch[lost] = batch[lost].set(exchange="nowhere")
        told = publish_many(batch, app=app)
        connection.channel().exchange_delete("nowhere")
    assert [one.index for one in told.failed] == [0, 150, 299]
    assert [one.index for one in told.of("returned")] == [0, 150, 299]
    assert all(isinstance(one.error, Unroutable) and "no queue takes" in str(one.error) for one in told.failed)
    assert arrived.ids() == list(told.confirmed)


def test_a_right_that_is_missing_is_told_of_each_without_trying_each(make_app: MakeApp, way: Between) -> None:
    # Given the gateway, which may not call the calculator, and may not send events
    app = make_app(way.address, user="gateway", publish_timeout=20.0)
    allowed = [scoped.show(number % 10) for number in range(50)]
    told = publish_many([*notes(2000), *allowed], app=app, window=10)
    assert told.counts == {"confirmed": 50, "rejected": 2000}
    assert all("ACCESS_REFUSED" in str(one.error) and not one.error.passing for one in told.failed)
    assert way.connections < 100


def test_whom_the_broker_closed_the_channel_over_is_found(make_app: MakeApp, arrived: Arrived) -> None:
    # Given a body that this publisher takes for small enough, and the broker does not
    app = make_app(publish_timeout=30.0, max_message_size=2**30)
    batch = notes(60)
    batch[30] = calculator.note("x" * 17 * 2**20)
    told = publish_many(batch, app=app)
    assert [(one.index, one.outcome) for one in told.failed] == [(30, "rejected")]
    assert set(arrived.ids()) == set(told.confirmed)


def test_what_is_too_large_stays_and_the_others_go(make_app: MakeApp, arrived: Arrived) -> None:
    batch = notes(10)
    batch[3] = calculator.note("x" * MAX_MESSAGE_SIZE)
    batch[6] = calculator.note("x" * 2**20)  # in many frames
    told = publish_many(batch, app=make_app(publish_timeout=20.0))
    assert [(one.index, one.outcome) for one in told.failed] == [(3, "too_large")]
    assert arrived.ids() == list(told.confirmed)


# --- The broker goes away ---------------------------------------------------------------------------------------------


def exact(told: Report, there: list[str]) -> None:
    """Fail where the report says of a task what is not so."""
    assert set(told.confirmed) <= set(there), "told confirmed, and not there"
    assert not {one.id for one in told.of("not_sent")} & set(there), "told not sent, and there"
    assert set(there) <= set(told.ids)
    twice = {one for one, times in Counter(there).items() if times > 1}
    assert twice <= set(told.repeated), "there twice, and not told so"


@pytest.mark.parametrize("retry", [False, True], ids=["once", "as usual"])
def test_a_connection_that_is_cut_in_the_middle(
    make_app: MakeApp, broker: OwnBroker, arrived: Arrived, retry: bool
) -> None:
    # Given two ways, of which the one in use breaks after some thousand, when confirmations are on their way
    ways = Between(broker.address), Between(broker.address)

    def cut() -> None:
        used = next(one for one in ways if one.connections)
        used.silence()
        threading.Timer(0.3, used.close).start()

    app = make_app(*(one.address for one in ways), publish_timeout=20.0)
    told = publish_many(notes(6000), app=app, retry=retry, progress=Cut(2000, cut))
    # Then the report is exact, and what lay on the way went over the other one, where that may be
    exact(told, arrived.ids())
    if retry:
        assert told.counts == {"confirmed": 6000} and 0 < len(told.repeated) <= 1000
    else:
        assert 0 < told.counts["unknown"] <= 1000 and not told.repeated
        # And once more under the same ids, each is there
        assert publish_many(told.again(), app=app).counts == {"confirmed": len(told.failed)}
        assert set(arrived.ids()) == {one.id for one in told.failed}
    for one in ways:
        one.close()


def test_a_broker_that_ends_and_comes_back(make_app: MakeApp, broker: OwnBroker, arrived: Arrived) -> None:
    # Given a broker that ends in the middle of a batch, and is started again
    app = make_app(publish_timeout=60.0)
    stopped: list[Any] = []

    def stop() -> None:
        broker.run("rabbitmqctl", "-q", "stop_app")
        stopped.append(threading.Thread(target=broker.run, args=("rabbitmqctl", "-q", "start_app")))
        stopped[0].start()

    told = publish_many(notes(5000), app=app, retry_policy={"max_retries": None}, progress=Cut(1500, stop))
    stopped[0].join()
    # Then all are confirmed, and they are there
    assert told.counts == {"confirmed": 5000}
    again = Arrived.__new__(Arrived)
    again.connection = arrived.connection = Connection(broker.administrator())
    again.channel = arrived.channel = again.connection.channel()
    again.queue = arrived.queue
    exact(told, again.ids())


def test_a_broker_that_falls_silent_is_told_in_time(make_app: MakeApp, way: Between, arrived: Arrived) -> None:
    # Given a connection over which no answer comes any more
    app = make_app(way.address, publish_timeout=2.0)
    with within(8.0):
        told = publish_many(notes(6000), app=app, progress=Cut(1000, way.silence))
    assert len(told.confirmed) >= 1000 and told.counts["unknown"] <= 1000
    assert told.counts["not_sent"] == 6000 - len(told.confirmed) - told.counts["unknown"] > 0
    # Then the report is exact, whatever arrives later
    way.speak()
    eventually(lambda: arrived.count() >= len(told.confirmed))
    exact(told, arrived.ids())


def test_where_it_is_silent_from_the_beginning_nothing_was_sent(make_app: MakeApp, way: Between) -> None:
    app = make_app(way.address, publish_timeout=1.0)
    warm(app)
    way.silence()
    with within(1.0):
        assert publish_many(notes(50), app=app).counts == {"confirmed": 0, "not_sent": 50}


def test_an_alarm_is_named_and_waited_for_in_bounds(make_app: MakeApp, broker: OwnBroker, arrived: Arrived) -> None:
    # Given a broker without memory
    app = make_app(publish_timeout=2.0)
    warm(app)
    with broker.alarm(), within(2.0):
        told = publish_many(notes(5000), app=app)
    assert told.counts["unknown"] + told.counts["not_sent"] == 5000
    assert all("alarm" in str(one.error) for one in told.failed)
    # And it sent no more than may be on its way
    assert told.counts["unknown"] <= 1000
    eventually(lambda: publish_many(notes(1), app=app).counts == {"confirmed": 1})
    exact(told, [one for one in arrived.ids() if one in told.ids])


def test_an_alarm_that_passes_delays_the_rest(make_app: MakeApp, broker: OwnBroker, arrived: Arrived) -> None:
    app = make_app(publish_timeout=30.0)
    warm(app)
    over = threading.Timer(1.0, broker.run, args=("rabbitmqctl", "-q", "set_vm_memory_high_watermark", "0.4"))
    with broker.alarm():
        over.start()
        told = publish_many(notes(3000), app=app)
    over.join()
    assert told.counts == {"confirmed": 3000} and not told.repeated
    assert arrived.ids()[1:] == list(told.ids)


def test_where_no_broker_is_there_nothing_was_sent(make_app: MakeApp) -> None:
    app = make_app(refused_port(), refused_port())
    with within(8.0):
        told = publish_many(notes(50), app=app)
    assert told.counts == {"confirmed": 0, "not_sent": 50}
    assert all(isinstance(one.error, NotSent) and one.error.passing for one in told.failed)


def test_where_all_connections_are_in_use_nothing_was_sent(make_app: MakeApp) -> None:
    app = make_app(publish_timeout=0.5)
    app.conf.broker_pool_limit = 1
    with app.producer_or_acquire(), within(0.5):
        told = publish_many(notes(5), app=app)
    assert told.counts == {"confirmed": 0, "not_sent": 5} and "connections" in str(told.failed[0].error)


def test_no_more_than_the_window_are_on_their_way(
    make_app: MakeApp, way: Between, arrived: Arrived, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(way.address, publish_timeout=1.0)
    told = publish_many(notes(500), app=app, window=30, retry=False, progress=Cut(60, way.silence))
    assert 0 < told.counts["unknown"] <= 30
    assert len(told.confirmed) + told.counts["unknown"] + told.counts["not_sent"] == 500


def test_what_is_interrupted_is_told_too(make_app: MakeApp, arrived: Arrived) -> None:
    # Given a batch that is broken off, as by Ctrl-C
    from shared.publish import prepare, report

    def interrupt(done: int, of: int) -> None:
        if done >= 1000:
            raise KeyboardInterrupt

    batch: Batch = prepare(notes(5000), app=make_app(), window=100, progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        batch.run()
    told = report(batch)
    assert 1000 <= len(told.confirmed) < 5000
    assert len(told.of("unknown")) <= 100
    assert isinstance(told.of("unknown")[0].error, Unknown) if told.of("unknown") else True
    eventually(lambda: arrived.count() >= len(told.confirmed))
    exact(told, arrived.ids())
