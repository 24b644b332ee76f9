"""One task after the other: what is filled in is what Celery would have written, and as safe."""

import os
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from celery import signals
from kombu import Connection
from kombu.exceptions import EncodeError

from shared import publish_one, scope
from shared.app import App
from shared.message_frames import Catcher, Caught, Template
from shared.metrics.declared import PUBLISHES
from shared.publish_one import Repeats, WrittenLine
from shared.publishing import NotSent, Rejected, TooLarge, Unknown
from shared.signatures import calculator
from shared.topology import MAX_MESSAGE_SIZE
from tests.publishing.between import Between
from tests.publishing.conftest import Arrived
from tests.publishing.test_publish_many import OPTIONS, caught, differences
from tests.publishing.test_publishing import full, note, within
from tests.servers import OwnBroker
from tests.waiting import eventually

pytestmark = pytest.mark.containers

MakeApp = Callable[..., App]
Take = Callable[[], list[Any]]
__all__ = ["caught", "full"]

#: Options with which a message is filled in; with all others Celery writes it.
FILLED_IN = ("plain", "priority", "limits", "a short id", "a long id")


@pytest.fixture
def filled_in(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the messages that Celery did not write."""
    names: list[str] = []
    send = WrittenLine.send

    def noting(line: WrittenLine, name: str, size: int) -> None:
        names.append(name)
        send(line, name, size)

    monkeypatch.setattr(WrittenLine, "send", noting)
    return names


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch, filled_in: list[str]) -> list[str]:
    """Has every message filled in that may be, also the first of its kind. Gives their names."""
    kind = Repeats._kind
    monkeypatch.setattr(Repeats, "_kind", lambda *given: kind(*given) or kind(*given))
    return filled_in


def by_celery(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing filled in any more."""
    monkeypatch.setattr(app, "_repeats", None)


# --- What is sent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OPTIONS)
def test_each_message_is_what_celery_sends(
    make_app: MakeApp,
    caught: Take,
    arrived: Arrived,
    at_once: list[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    # Given calls with options, in a scope
    app = make_app()
    given = {"task_id": "an-id", **OPTIONS[kind]}
    with scope.scope(locale="fr", depth=1.5):
        calls = [
            calculator.note('with "quotes" and € and \\').set(**given),
            calculator.note.s("by place").set(**{**given, "task_id": "another"}),
            calculator.add(1, 2.5).set(**{**given, "task_id": "a third"}),
        ]
    # When they are published, filled in where that may be, and by Celery
    for one in calls:
        one.clone().apply_async()
    ours = caught()
    assert len(at_once) == (3 if kind in FILLED_IN else 0)
    by_celery(app, monkeypatch)
    for one in calls:
        one.clone().apply_async()
    # Then each message is the same
    celerys = caught()
    assert len(ours) == len(celerys) == 3
    for one, other in zip(ours, celerys, strict=True):
        assert differences(one, other) == {}
    assert ours[0].headers["scope"] == {"locale": "fr", "depth": 1.5}


def test_what_is_published_now_and_then_is_left_to_celery(
    make_app: MakeApp, arrived: Arrived, filled_in: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    note(app)
    assert filled_in == []
    for _ in range(3):
        note(app)
    assert len(filled_in) == 3
    # Given a second between one and the next
    now = time.monotonic
    for seconds in (2, 4, 6):
        monkeypatch.setattr(publish_one, "monotonic", lambda later=seconds: now() + later)
        note(app)
    assert len(filled_in) == 3


def test_what_is_configured_anew_counts_within_a_second(
    make_app: MakeApp, caught: Take, at_once: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a task that is published all the time
    app, began = make_app(), time.monotonic()
    other = {"exchange": "tasks", "exchange_type": "topic", "routing_key": "calculator.other"}
    for seconds in (0.0, 0.6, 1.2):
        monkeypatch.setattr(publish_one, "monotonic", lambda at=began + seconds: at)
        note(app)
        # When its route changes, then it goes the new way a second later
        app.conf.update(task_routes={"calculator.note": other})
    assert [one.delivery_info["routing_key"] for one in caught()][::2] == ["calculator.note", "calculator.other"]
    assert len(at_once) == 3


def test_what_is_compressed_is_left_to_celery(
    make_app: MakeApp, caught: Take, arrived: Arrived, at_once: list[str]
) -> None:
    app = make_app()
    app.conf.task_compression = "zlib"
    note(app)
    (message,) = caught()
    assert b"hello" in zlib.decompress(message.body) and at_once == []


def test_a_scope_is_that_of_its_publish(make_app: MakeApp, caught: Take, arrived: Arrived, at_once: list[str]) -> None:
    app = make_app()
    kept = calculator.note("hello").set(scope={"locale": "de"})
    for locale in ("fr", "en", "fr"):
        with scope.scope(locale=locale):
            note(app)
    note(app)
    for locale in ("de", "it"):
        # By whoever owns the signature.
        kept.options["scope"]["locale"] = locale
        kept.apply_async()
    found = [(message.headers.get("scope") or {}).get("locale") for message in caught()]
    assert found == ["fr", "en", "fr", None, "de", "it"]
    assert len(at_once) == 6


def test_each_thread_is_answered_by_itself(
    make_app: MakeApp, caught: Take, arrived: Arrived, at_once: list[str]
) -> None:
    app, owners = make_app(), dict[str, str]()

    def publish() -> None:
        for _ in range(20):
            owners[note(app).id] = app.thread_oid

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert {one.headers["id"]: one.properties["reply_to"] for one in caught()} == owners
    assert len(set(owners.values())) == 4 and len(at_once) == 80


def test_another_process_names_itself(
    make_app: MakeApp, caught: Take, arrived: Arrived, at_once: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    note(app)
    here = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: here + 1)
    note(app)
    origins = [message.headers["origin"].partition("@")[0] for message in caught()]
    assert origins == [f"gen{here}", f"gen{here + 1}"] and len(at_once) == 2


def test_whoever_listens_hears_of_each_from_then_on(make_app: MakeApp, arrived: Arrived, filled_in: list[str]) -> None:
    app, heard = make_app(), list[str]()

    def hear(headers: dict[str, Any], **_: Any) -> None:
        heard.append(headers["id"])

    for _ in range(3):
        note(app)
    signals.after_task_publish.connect(hear)
    try:
        sent = note(app)
    finally:
        signals.after_task_publish.disconnect(hear)
    assert heard == [sent.id] and len(filled_in) == 2


def test_what_a_task_publishes_names_its_parent(
    make_app: MakeApp, caught: Take, arrived: Arrived, at_once: list[str]
) -> None:
    app = make_app()

    @app.task(name="calculator.parent")
    def parent() -> list[str]:
        return [note(app).id for _ in range(3)]

    note(app)
    caught()
    ran = parent.apply()
    found = caught()
    assert [message.headers["id"] for message in found] == ran.get()
    assert {(one.headers["parent_id"], one.headers["root_id"]) for one in found} == {(ran.id, ran.id)}
    assert len(at_once) == 1


def test_what_no_queue_takes_comes_back_from_a_workers_app_too(make_app: MakeApp) -> None:
    # Given a task that the app knows itself, whose options say nothing of it
    app = make_app()

    @app.task(name="calculator.known", ignore_result=True)
    def known() -> None:
        pass

    with pytest.raises(Caught) as message:
        known.apply_async(producer=Catcher())
    assert message.value.mandatory


def test_flower_hears_what_celery_tells(
    make_app: MakeApp, arrived: Arrived, broker: OwnBroker, at_once: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given somebody who listens, as Flower does
    app, heard = make_app(), list[dict[str, Any]]()
    with Connection(broker.administrator()) as connection:
        channel = connection.channel()
        receiver = app.events.Receiver(channel, handlers={"task-sent": heard.append})
        receiver.queue.exchange.no_declare = True
        with app.amqp.Consumer(channel, queues=[receiver.queue], callbacks=[receiver._receive], no_ack=True):
            # When a task is published twice, the second time by Celery
            note(app, 'with "quotes" and €', task_id="one")
            by_celery(app, monkeypatch)
            note(app, 'with "quotes" and €', task_id="one")
            while len(heard) < 2:
                connection.drain_events(timeout=20)
    # Then what is heard differs in its time alone
    ours, celerys = heard
    assert ours.keys() == celerys.keys()
    moving = {"timestamp", "local_received", "clock"}
    assert {key: ours[key] for key in ours.keys() - moving} == {key: celerys[key] for key in celerys.keys() - moving}
    assert abs(ours["timestamp"] - celerys["timestamp"]) < 5 and ours["clock"] < celerys["clock"]
    assert at_once == ["calculator.note[one]"]


def test_a_result_is_there_for_whoever_asks(
    make_app: MakeApp, arrived: Arrived, at_once: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, called = make_app(), list[str]()
    monkeypatch.setattr(app.backend, "on_task_call", lambda producer, task_id: called.append(task_id))
    result = calculator.add(1, 2).apply_async()
    app.backend.store_result(result.id, 3, "SUCCESS")
    assert result.get(timeout=20) == 3
    assert not result.ignored and note(app).ignored and len(at_once) == 2
    # Whom it is for has been told of it, and of nothing else but what made the template.
    assert called[-1] == result.id


def test_what_json_does_not_carry_is_told_by_celery(make_app: MakeApp, arrived: Arrived, at_once: list[str]) -> None:
    app = make_app()
    note(app)
    with pytest.raises(EncodeError, match="not JSON serializable"):
        app.send_task("calculator.note", (object(),), ignore_result=True)
    assert len(at_once) == 1 and arrived.count() == 1


# --- What becomes of it -----------------------------------------------------------------------------------------------


def test_publishes_are_counted_by_what_became_of_them(
    make_app: MakeApp, arrived: Arrived, at_once: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: Counter[tuple[str, ...]] = Counter()
    monkeypatch.setattr(PUBLISHES, "inc", lambda *labels, by=1: counted.update({labels: by}))
    app = make_app()
    for _ in range(3):
        note(app)
    with pytest.raises(TooLarge, match="MAX_MESSAGE_SIZE"):
        note(app, "x" * (MAX_MESSAGE_SIZE + 1))
    assert counted == {("calculator", "confirmed"): 3, ("calculator", "too_large"): 1}


def test_without_confirms_nobody_waits_for_them(make_app: MakeApp, arrived: Arrived, at_once: list[str]) -> None:
    app = make_app(publish_timeout=8.0)
    app.conf.broker_transport_options = {"confirm_publish": False}
    with within(1.0):
        sent = [note(app).id for _ in range(3)]
    eventually(lambda: arrived.count() == 3)
    assert arrived.ids() == sent and at_once == []


def test_a_full_queue_is_a_refusal_that_may_pass(make_app: MakeApp, full: str, at_once: list[str]) -> None:
    app = make_app(publish_timeout=8.0)
    app.send_task(full)
    with within(8.0), pytest.raises(Rejected) as told:
        app.send_task(full)
    assert told.value.passing and len(at_once) == 2


def test_a_right_that_is_missing_is_a_refusal_and_not_tried_again(
    make_app: MakeApp, way: Between, at_once: list[str]
) -> None:
    app = make_app(way.address, user="gateway")
    app.conf.task_send_sent_event = False
    with pytest.raises(Rejected, match="ACCESS_REFUSED") as told:
        note(app)
    assert not told.value.passing and way.connections == 1 and len(at_once) == 1
    # And what it may is done afterwards
    app.send_task("scoped.show", (1,), ignore_result=True)


def test_a_broker_that_falls_silent_is_left(
    make_app: MakeApp, broker: OwnBroker, way: Between, arrived: Arrived, at_once: list[str]
) -> None:
    # Given two ways, and a connection over the first, which falls silent
    other = Between(broker.address)
    app = make_app(way.address, other.address, publish_timeout=8.0)
    note(app)
    way.silence()
    # When a task is published, then it is confirmed over the second
    with within(8.0):
        one = note(app)
    assert other.connections == 1 and len(at_once) == 2
    # And its copies have one id
    assert set(arrived.ids()[1:]) == {one.id}
    other.close()


def test_a_broker_that_does_not_confirm_is_told_in_time(
    make_app: MakeApp, way: Between, arrived: Arrived, at_once: list[str]
) -> None:
    app = make_app(way.address, publish_timeout=1.0)
    note(app)
    way.silence()
    with within(1.0), pytest.raises(Unknown, match="same id") as told:
        note(app, task_id="in-doubt")
    assert "calculator.note[in-doubt]" in str(told.value) and len(at_once) == 2
    eventually(lambda: arrived.count() >= 2)
    assert set(arrived.ids()[1:]) == {"in-doubt"}


def test_a_body_that_leaves_slowly_is_cut_off_in_time(make_app: MakeApp, way: Between, at_once: list[str]) -> None:
    app = make_app(way.address, publish_timeout=1.5)
    note(app)
    way.rate = 400_000
    with within(1.5), pytest.raises(Unknown):
        note(app, "x" * 15 * 2**20)
    assert len(at_once) == 2


def test_an_alarm_is_named_and_leaves_one_copy_at_most(
    make_app: MakeApp, broker: OwnBroker, arrived: Arrived, at_once: list[str]
) -> None:
    app = make_app(publish_timeout=8.0)
    note(app)
    with broker.alarm(), pytest.raises(Unknown, match="alarm"), within(8.0):
        note(app, task_id="blocked")
    eventually(lambda: went(app))
    assert arrived.ids().count("blocked") <= 1 and "calculator.note[blocked]" in at_once


def went(app: App) -> bool:
    """Whether the broker takes something."""
    try:
        note(app, task_id="after")
    except (Unknown, NotSent):
        return False
    return True


def test_headers_that_do_not_fit_into_a_frame_were_not_sent(
    make_app: MakeApp, arrived: Arrived, at_once: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    note(app)
    monkeypatch.setattr(Template, "frames", lambda *_: None)
    with pytest.raises(NotSent, match="frame"):
        note(app)
    assert arrived.count() == 1
