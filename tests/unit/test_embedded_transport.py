"""Messages as files: none lost, none twice, none half written."""

import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Exchange, Queue, binding
from kombu.messaging import Producer

from shared.app import App

MESSAGES = 2000

# Forked, so that a test's own functions can run in them.
processes = multiprocessing.get_context("fork")


@pytest.fixture
def connect(make_app: Callable[..., App]) -> Callable[[], Connection]:
    """Opens connections with the options that an embedded app has."""
    app = make_app()
    return lambda: Connection(app.conf.broker_url, transport_options=dict(app.conf.broker_transport_options))


@pytest.fixture
def folder(make_app: Callable[..., App]) -> Path:
    """Where the messages are."""
    return Path(make_app().conf.broker_transport_options["data_folder_in"])


def queue(name: str) -> Queue:
    exchange = Exchange("tasks", type="topic")
    return Queue(name, bindings=[binding(exchange, f"{name}.#"), binding(exchange, "all.#")])


def publish(channel: Any, key: str, *bodies: Any) -> None:
    producer = Producer(channel, exchange=Exchange("tasks", type="topic"), serializer="json")
    for body in bodies:
        producer.publish(body, routing_key=key)


def take(channel: Any, name: str) -> Any:
    """The body of the next message; None where there is none."""
    message = channel.basic_get(name, no_ack=True)
    return None if message is None else message.payload


@contextmanager
def process(work: Callable[..., None], *args: Any) -> Iterator[BaseProcess]:
    """Do `work` in a process of its own; it must succeed."""
    child = processes.Process(target=work, args=args)
    child.start()
    try:
        yield child
        child.join(30)
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join()


def take_all(connect: Callable[[], Connection], name: str, done: Any, results: Path) -> None:
    """Take messages, and keep what came, until `done` is set and none is left."""
    taken = []
    with connect() as connection:
        channel = connection.default_channel
        queue(name).bind(channel).declare()
        while True:
            last = done.is_set()
            body = take(channel, name)
            if body is not None:
                taken.append(body)
            elif last:
                break
            else:
                time.sleep(0.001)
    results.write_text(json.dumps(taken))


# --- Between processes ------------------------------------------------------------------------------------------------


def test_two_consumers_of_two_publishers_lose_nothing_and_take_nothing_twice(
    connect: Callable[[], Connection], tmp_path: Path, folder: Path
) -> None:
    # Given two consumers, each in a process of its own
    done = processes.Event()
    results = [tmp_path / "one", tmp_path / "two"]

    def send(publisher: int) -> None:
        with connect() as connection:
            channel = connection.default_channel
            queue("reporter").bind(channel).declare()
            publish(channel, "reporter.x", *([publisher, number] for number in range(MESSAGES // 2)))

    with (
        process(take_all, connect, "reporter", done, results[0]),
        process(take_all, connect, "reporter", done, results[1]),
    ):
        # When two others publish 2,000 messages meanwhile
        with process(send, 0), process(send, 1):
            pass
        done.set()
    # Then each message was taken exactly once, and both consumers took part
    taken = [json.loads(path.read_text()) for path in results]
    expected = {(publisher, number): 1 for publisher in (0, 1) for number in range(MESSAGES // 2)}
    assert Counter(tuple(body) for each in taken for body in each) == expected
    assert all(taken)
    # And each consumer saw the messages of one publisher in their order
    for each in taken:
        for publisher in (0, 1):
            numbers = [number for sender, number in each if sender == publisher]
            assert numbers == sorted(numbers)
    # And nothing is left behind
    assert not list(folder.iterdir())


def test_a_message_is_never_seen_half_written(connect: Callable[[], Connection], tmp_path: Path) -> None:
    # Given messages of four megabytes, which take many writes each
    size = 4 * 2**20

    def send() -> None:
        with connect() as connection:
            channel = connection.default_channel
            queue("reporter").bind(channel).declare()
            publish(channel, "reporter.x", *({"number": number, "load": "x" * size} for number in range(8)))

    # When a reader looks for them all the time while they are written
    with connect() as connection:
        channel = connection.default_channel
        queue("reporter").bind(channel).declare()
        taken: list[tuple[int, int]] = []
        with process(send) as sender:
            while len(taken) < 8:
                alive = sender.is_alive()
                body = take(channel, "reporter")
                assert body is not None or alive or len(taken) == 8
                if body is not None:
                    taken.append((body["number"], len(body["load"])))
    # Then each came whole
    assert taken == [(number, size) for number in range(8)]


def test_a_message_whose_writer_was_killed_is_never_seen(connect: Callable[[], Connection], folder: Path) -> None:
    # Given what a writer leaves that is killed before its message is whole, and a real message
    with connect() as connection:
        channel = connection.default_channel
        queue("reporter").bind(channel).declare()
        (folder / f".{0:020d}_dead.reporter.msg").write_text('{"body": "tru')
        publish(channel, "reporter.x", "whole")
        # Then only the real one is there
        assert queue("reporter").bind(channel).queue_declare(passive=True).message_count == 1
        assert [take(channel, "reporter"), take(channel, "reporter")] == ["whole", None]


def test_processes_may_bind_their_queues_at_once(make_app: Callable[..., App], tmp_path: Path) -> None:
    # Given that workers and clients start together, on a machine where nothing is yet; several times, as it is a race
    for attempt in range(5):
        app = make_app(local_dir=tmp_path / str(attempt))
        together = processes.Barrier(8)

        def declare(number: int, app: App = app, together: Any = together) -> None:
            with app.connection_for_write() as connection:
                channel = connection.default_channel
                together.wait(10)
                queue(f"service{number}").bind(channel).declare()

        # When each binds its queue
        running = [processes.Process(target=declare, args=(number,)) for number in range(8)]
        for each in running:
            each.start()
        for each in running:
            each.join(30)
        # Then all succeed, and a message for everyone reaches each
        assert [each.exitcode for each in running] == [0] * 8
        with app.connection_for_write() as connection:
            channel = connection.default_channel
            Exchange("tasks", type="topic").bind(channel).declare()
            publish(channel, "all.ping", "hello")
            assert [take(channel, f"service{number}") for number in range(8)] == ["hello"] * 8


# --- In one process ---------------------------------------------------------------------------------------------------


def test_messages_of_one_publisher_keep_their_order(connect: Callable[[], Connection]) -> None:
    with connect() as connection:
        channel = connection.default_channel
        queue("reporter").bind(channel).declare()
        publish(channel, "reporter.x", *range(300))
        assert [take(channel, "reporter") for _ in range(301)] == [*range(300), None]


def test_a_queue_whose_name_ends_like_anothers_takes_only_its_own(connect: Callable[[], Connection]) -> None:
    # Given queues whose names contain each other
    with connect() as connection:
        channel = connection.default_channel
        for name in ("reporter", "a.reporter", "reporter.dead"):
            queue(name).bind(channel).declare()
        # When each gets a message
        publish(channel, "a.reporter.x", "for a.reporter")
        channel._put("reporter.dead", {"body": "for reporter.dead"})
        # Then no other takes it
        with pytest.raises(Empty):
            channel._get("reporter")
        assert take(channel, "a.reporter") == "for a.reporter"
        assert channel._get("reporter.dead") == {"body": "for reporter.dead"}


def test_a_message_for_everyone_reaches_every_queue(connect: Callable[[], Connection]) -> None:
    with connect() as connection:
        channel = connection.default_channel
        for name in ("one", "two"):
            queue(name).bind(channel).declare()
        publish(channel, "all.ping", "hello")
        publish(channel, "one.task", "to one")
        assert [take(channel, "one"), take(channel, "one"), take(channel, "one")] == ["hello", "to one", None]
        assert [take(channel, "two"), take(channel, "two")] == ["hello", None]


def test_a_message_that_is_given_back_is_taken_again(connect: Callable[[], Connection]) -> None:
    # Given a message that was taken and not acknowledged
    with connect() as connection:
        channel = connection.default_channel
        queue("reporter").bind(channel).declare()
        publish(channel, "reporter.x", "hello")
        message = channel.basic_get("reporter")
        assert channel.basic_get("reporter") is None
        # When it is given back
        message.requeue()
        # Then it is there again
        assert [take(channel, "reporter"), take(channel, "reporter")] == ["hello", None]


def test_messages_outlive_their_connection(connect: Callable[[], Connection]) -> None:
    with connect() as connection:
        queue("reporter").bind(connection.default_channel).declare()
        publish(connection.default_channel, "reporter.x", "hello")
    with connect() as connection:
        assert take(connection.default_channel, "reporter") == "hello"


def test_a_queue_can_be_counted_and_emptied(connect: Callable[[], Connection], folder: Path) -> None:
    with connect() as connection:
        channel = connection.default_channel
        queue("reporter").bind(channel).declare()
        publish(channel, "reporter.x", 1, 2, 3)
        assert channel._size("reporter") == 3
        assert channel.queue_purge("reporter") == 3
        assert channel._size("reporter") == 0 and not list(folder.iterdir())
