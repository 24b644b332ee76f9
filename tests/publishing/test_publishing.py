"""A publisher learns within its time whether the broker has the message, and is never told yes falsely."""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import amqp
import pytest
from celery import chain, chord, group, signals
from kombu import Connection
from kombu.exceptions import OperationalError

from shared.app import App
from shared.publishing import Line, NotSent, PublishError, Rejected, TooLarge, Unknown
from shared.signatures import calculator
from shared.topology import MAX_MESSAGE_SIZE
from tests.ports import free_port
from tests.publishing.between import Between
from tests.publishing.conftest import Arrived
from tests.servers import OwnBroker
from tests.waiting import eventually

pytestmark = pytest.mark.containers

MakeApp = Callable[..., App]
#: Seconds that an answer may come late on a machine that has much to do.
GRACE = 3.0


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail when the block takes much longer, also where it raises."""
    began = time.monotonic()
    try:
        yield
    finally:
        assert time.monotonic() - began < seconds + GRACE


def note(app: App, text: str = "hello", **options: Any) -> Any:
    """Publish a task whose result nobody keeps."""
    return app.send_task("calculator.note", (text,), ignore_result=True, **options)


def connect(app: App) -> None:
    """Publish something, however long it takes, so that a connection is there."""
    note(app, task_id="before", confirm_timeout=60.0)


def refused_port() -> str:
    """An address where nobody listens."""
    return f"127.0.0.1:{free_port()}"


def forget_to_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what is tested: a connection that was given up while it waited is used for the next message."""
    monkeypatch.setattr(Line, "_leave", lambda self: None)


def test_what_was_confirmed_is_in_the_queue(make_app: MakeApp, arrived: Arrived) -> None:
    app = make_app(publish_timeout=20.0)
    published = [note(app).id for _ in range(20)]
    assert arrived.ids() == published


# --- Nobody answers ---------------------------------------------------------------------------------------------------


def test_a_broker_that_does_not_confirm_is_told_in_time(make_app: MakeApp, way: Between, arrived: Arrived) -> None:
    # Given a connection over which no answer comes any more
    app = make_app(way.address, publish_timeout=1.0)
    connect(app)
    way.silence()
    # When a task is published, then it is told in time that it may be there
    with within(1.0), pytest.raises(Unknown, match="same id") as told:
        note(app, task_id="in-doubt")
    assert "calculator.note[in-doubt]" in str(told.value)
    # And all copies of it have the same id
    eventually(lambda: arrived.count() >= 2)
    assert set(arrived.ids()[1:]) == {"in-doubt"}


@pytest.mark.parametrize("leaves", [True, False], ids=["as it is", "negative control"])
@pytest.mark.parametrize("ended_by", ["the timeout", "a time limit"])
def test_a_late_confirmation_is_not_taken_for_the_next_messages(
    make_app: MakeApp, way: Between, monkeypatch: pytest.MonkeyPatch, leaves: bool, ended_by: str
) -> None:
    # Given a producer, as a group has one for all its tasks, and a message whose confirmation is late
    app = make_app(way.address, publish_timeout=1.0, max_message_size=2**30)
    if not leaves:
        forget_to_leave(monkeypatch)
    with app.producer_or_acquire() as producer:
        note(app, producer=producer, confirm_timeout=60.0)
        way.silence(new=False)
        if ended_by == "the timeout":
            with pytest.raises(Unknown):
                note(app, retry=False, producer=producer)
        else:
            with pytest.raises(ZeroDivisionError), interrupted_after(0.3):
                note(app, retry=False, producer=producer)
        # When it comes while the next message is on its way, which is one that the broker refuses
        way.speaks_after = 17 * 2**20
        with pytest.raises(Rejected) if leaves else nullcontext():
            # Then the publisher is told so; on the same connection it would be told that the broker has it
            note(app, "x" * 17 * 2**20, retry=False, confirm_timeout=10.0, producer=producer)


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """As a task is by its soft time limit: an exception out of nowhere."""

    def raise_it(*_: Any) -> None:
        raise ZeroDivisionError

    before = signal.signal(signal.SIGALRM, raise_it)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_alarm_is_named_and_leaves_one_copy_at_most(make_app: MakeApp, broker: OwnBroker, arrived: Arrived) -> None:
    # Given a broker without memory
    app = make_app(publish_timeout=8.0)
    connect(app)
    # When a task is published, then its publisher learns in time why nobody takes it
    with broker.alarm(), pytest.raises(Unknown, match="alarm"), within(8.0):
        note(app, task_id="blocked")
    # And when the alarm is over, publishing goes on, and no repetition comes after it
    eventually(lambda: published(app))
    assert arrived.ids().count("blocked") <= 1


def published(app: App) -> bool:
    """Whether the broker takes something."""
    try:
        note(app, task_id="after")
    except PublishError:
        return False
    return True


def test_a_body_that_leaves_slowly_is_cut_off_in_time(
    make_app: MakeApp, way: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a way of 400 kB a second, over which no single frame takes long
    app = make_app(way.address, publish_timeout=1.5)
    connect(app)
    way.rate = 400_000
    # When 15 MiB are published, then it is told in time that they did not get through
    with within(1.5), pytest.raises(Unknown):
        note(app, "x" * 15 * 2**20)


def test_where_all_connections_are_in_use_nobody_waits_for_ever(make_app: MakeApp) -> None:
    app = make_app(publish_timeout=0.5)
    app.conf.broker_pool_limit = 1
    with app.producer_or_acquire(), within(0.5), pytest.raises(NotSent, match="connections") as told:
        note(app)
    assert told.value.passing
    connect(app)


# --- Several brokers --------------------------------------------------------------------------------------------------


def test_a_broker_that_is_not_there_is_passed_over(make_app: MakeApp, way: Between, arrived: Arrived) -> None:
    app = make_app(refused_port(), refused_port(), way.address, publish_timeout=8.0)
    with within(8.0):
        one = note(app)
    assert arrived.ids() == [one.id]


def test_where_no_broker_is_there_nothing_was_sent(make_app: MakeApp) -> None:
    app = make_app(refused_port(), refused_port())
    with within(8.0), pytest.raises(NotSent, match="it will not run") as told:
        note(app)
    assert told.value.passing and isinstance(told.value, OperationalError)


def test_one_try_is_one_round(make_app: MakeApp) -> None:
    with pytest.raises(NotSent, match="after 2 of 2 attempts"):
        note(make_app(refused_port(), refused_port()), retry=False)


def test_a_broker_that_says_nothing_leaves_time_for_the_next(make_app: MakeApp, way: Between, arrived: Arrived) -> None:
    # Given a broker that accepts connections and says nothing, and one that works
    with socket.create_server(("127.0.0.1", 0)) as silent:
        app = make_app(f"127.0.0.1:{silent.getsockname()[1]}", way.address, publish_timeout=8.0)
        # Then the other one has the task in time
        with within(8.0):
            one = note(app)
    assert arrived.ids() == [one.id]


def test_a_broker_that_falls_silent_is_left(
    make_app: MakeApp, broker: OwnBroker, way: Between, arrived: Arrived
) -> None:
    # Given two ways, and a connection over the first, which falls silent
    other = Between(broker.address)
    app = make_app(way.address, other.address, publish_timeout=8.0)
    connect(app)
    way.silence()
    # When a task is published, then it is confirmed over the second
    with within(8.0):
        one = note(app)
    assert other.connections == 1
    # And its copies have one id
    assert set(arrived.ids()[1:]) == {one.id}
    other.close()


# --- The broker says no -----------------------------------------------------------------------------------------------


def test_a_right_that_is_missing_is_a_refusal_and_not_tried_again(make_app: MakeApp, way: Between) -> None:
    # Given the gateway, which may not call the calculator
    app = make_app(way.address, user="gateway")
    app.conf.task_send_sent_event = False
    with pytest.raises(Rejected, match="ACCESS_REFUSED") as told:
        note(app)
    assert not told.value.passing and way.connections == 1
    # And what it may is done afterwards
    app.send_task("scoped.show", (1,), ignore_result=True)


def test_a_wrong_password_is_not_tried_again(make_app: MakeApp, way: Between) -> None:
    app = make_app(way.address, broker_password="wrong")
    with within(8.0), pytest.raises(NotSent, match="cannot be reached") as told:
        note(app)
    assert not told.value.passing and way.connections == 1


@pytest.fixture
def full(broker: OwnBroker) -> Iterator[str]:
    """A routing key whose queue takes one message, and refuses the next."""
    with Connection(broker.administrator()) as connection:
        channel = connection.channel()
        arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
        channel.queue_declare("full", durable=True, auto_delete=False, arguments=arguments)
        channel.queue_bind("full", "tasks", "full.#")
        yield "full.task"
        channel.queue_delete("full")


def test_a_full_queue_is_a_refusal_that_may_pass(make_app: MakeApp, full: str) -> None:
    app = make_app(publish_timeout=8.0)
    app.send_task(full)
    with within(8.0), pytest.raises(Rejected) as told:
        app.send_task(full)
    assert told.value.passing


def test_an_event_that_cannot_be_sent_disturbs_no_task(make_app: MakeApp, way: Between) -> None:
    # Given the gateway's user, who may not send the event of a task that was published
    app = make_app(way.address, user="gateway")
    assert app.conf.task_send_sent_event
    # Then each task is confirmed all the same, over one connection
    for _ in range(3):
        assert app.send_task("scoped.show", (1,), ignore_result=True).id
    assert way.connections == 1


def test_nobody_waits_for_an_event(make_app: MakeApp, broker: OwnBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given somebody who listens, as Flower does
    app, waits, heard = make_app(), list[Any](), list[dict[str, Any]]()
    note(app)  # connects
    wait = amqp.Channel.wait

    def waiting(self: amqp.Channel, method: Any, *given: Any, **options: Any) -> Any:
        waits.append(method)
        return wait(self, method, *given, **options)

    with Connection(broker.administrator()) as connection:
        channel = connection.channel()
        receiver = app.events.Receiver(channel, handlers={"task-sent": heard.append})
        receiver.queue.exchange.no_declare = True
        with app.amqp.Consumer(channel, queues=[receiver.queue], callbacks=[receiver._receive], no_ack=True):
            # When a task is published
            monkeypatch.setattr(amqp.Channel, "wait", waiting)
            sent = note(app)
            # Then its own confirmation is all that was waited for
            assert len(waits) == 1
            monkeypatch.undo()
            # And its event comes
            while not heard:
                connection.drain_events(timeout=20)
    assert [one["uuid"] for one in heard] == [sent.id]


# --- Size -------------------------------------------------------------------------------------------------------------


def test_17_mib_are_refused_at_the_caller_and_15_are_not(make_app: MakeApp, way: Between, arrived: Arrived) -> None:
    app = make_app(way.address, publish_timeout=20.0)
    # When 17 MiB are published, then the caller learns the size, the limit and its name, and nothing is sent
    with pytest.raises(TooLarge, match=rf"17,825,\d+ bytes, .* {MAX_MESSAGE_SIZE:,} \(MAX_MESSAGE_SIZE\)") as told:
        note(app, "x" * 17 * 2**20)
    assert not told.value.passing and isinstance(told.value, ValueError) and way.connections == 0
    # And 1 and 15 MiB go through
    sent = [note(app, "x" * size * 2**20).id for size in (1, 15)]
    assert arrived.ids() == sent


def test_the_limit_is_the_brokers_own_to_the_byte(make_app: MakeApp, arrived: Arrived) -> None:
    app = make_app(publish_timeout=20.0)
    heard: list[Any] = []

    def hear(body: Any, **_: Any) -> None:
        heard.append(body)

    signals.before_task_publish.connect(hear)
    note(app, "")
    signals.before_task_publish.disconnect(hear)
    room = MAX_MESSAGE_SIZE - len(json.dumps(heard[0]))
    # What has just the size is confirmed; one byte more is refused here, and by the broker
    largest = note(app, "x" * room)
    assert arrived.ids()[-1] == largest.id
    with pytest.raises(TooLarge):
        note(app, "x" * (room + 1))
    with pytest.raises(Rejected, match="max"):
        note(make_app(publish_timeout=20.0, max_message_size=2**30), "x" * (room + 1))


# --- Whatever is published --------------------------------------------------------------------------------------------

CANVASES = {
    "task": lambda: calculator.note("a"),
    "chain": lambda: chain(calculator.note("a"), calculator.note.si("b")),
    "group": lambda: group(calculator.note("a"), calculator.note("b")),
    "chord": lambda: chord([calculator.add(1, 1), calculator.add(2, 2)], calculator.total.s()),
    "delayed": lambda: calculator.note("a").set(countdown=60),
}


@pytest.mark.parametrize("kind", CANVASES)
def test_a_canvas_is_published_with_the_same_care(make_app: MakeApp, way: Between, arrived: Arrived, kind: str) -> None:
    # Given a publisher that has no answer any more
    app = make_app(way.address, publish_timeout=0.5)
    connect(app)
    way.silence()
    # When a canvas is published, then it is told so in time
    with within(0.5), pytest.raises(Unknown):
        CANVASES[kind]().apply_async()


def test_many_threads_publish_at_once(make_app: MakeApp, arrived: Arrived) -> None:
    app = make_app(publish_timeout=30.0)
    sent: list[str] = []

    def publish() -> None:
        sent.extend(note(app).id for _ in range(10))

    threads = [threading.Thread(target=publish) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(arrived.ids()) == sorted(sent) and len(sent) == 80
