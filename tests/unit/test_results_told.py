"""Who waits for what it calls is told the results, and asks Redis for nothing; what is not told is found too."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from celery import states
from celery.exceptions import TimeoutError
from redis import Redis
from redis.client import PubSub

from shared.app import App
from shared.message_frames import Catcher
from shared.results import waiting
from tests.servers import OwnRedis
from tests.waiting import eventually


@pytest.fixture
def app(make_app: Callable[..., App], redis: OwnRedis) -> App:
    return make_app(broker_url="amqp://nobody@127.0.0.1:1//", redis_url=redis.url)


@pytest.fixture
def asked(app: App, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The commands that whoever waits gave to Redis."""
    names: list[str] = []
    for kind in (Redis, PubSub):
        sent = kind.execute_command

        def execute(self: Any, *arguments: Any, sent: Any = sent, **options: Any) -> Any:
            names.append(arguments[0])
            return sent(self, *arguments, **options)

        monkeypatch.setattr(kind, "execute_command", execute)
    yield names


def call(app: App, task_id: str | None = None) -> str:
    """What a publish tells the result store."""
    task_id = task_id or str(uuid4())
    app.backend.on_task_call(None, task_id)
    return task_id


def end(app: App, task_id: str, value: Any = 7, state: str = states.SUCCESS, caller: str | None = None) -> None:
    """What a worker does, for a task of this caller or another."""
    request = SimpleNamespace(reply_to=caller or app.thread_oid, root_id=None, group=None, delivery_info=None)
    app.backend.store_result(task_id, value, state, request=request)


def wait_once(app: App) -> None:
    """As any caller's first time: the result comes after the subscription."""
    task_id, caller = call(app), app.thread_oid
    sooner = threading.Timer(0.05, end, (app, task_id), {"caller": caller})
    sooner.start()
    assert app.AsyncResult(task_id).get(timeout=5) == 7
    sooner.join()


def test_what_is_only_written_is_no_call(app: App) -> None:
    wait_once(app)
    app.backend.on_task_call(Catcher(), "written")
    assert not app.backend.result_consumer.tells("written")


def test_who_has_waited_once_is_told_and_asks_for_nothing(app: App, asked: list[str]) -> None:
    wait_once(app)
    for value in range(3):
        task_id = call(app)
        end(app, task_id, value)
        del asked[:]
        assert app.AsyncResult(task_id).get(timeout=5) == value
        assert asked == []
    # And an error is raised
    task_id = call(app)
    end(app, task_id, ValueError("no"), states.FAILURE)
    with pytest.raises(ValueError, match="no"):
        app.AsyncResult(task_id).get(timeout=5)
    assert not app.backend._pending_messages and not app.backend.result_consumer._told


def test_a_result_that_comes_later_than_expected_is_told_once(app: App, asked: list[str]) -> None:
    wait_once(app)
    task_id, caller = call(app), app.thread_oid
    heard: list[Any] = []
    timer = threading.Timer(waiting.PATIENCE * 2, end, (app, task_id), {"caller": caller})
    timer.start()
    assert app.AsyncResult(task_id).get(timeout=5, on_message=heard.append) == 7
    timer.join()
    assert [one["status"] for one in heard] == [states.SUCCESS]
    assert "SUBSCRIBE" in asked


def test_many_calls_and_then_their_results(app: App, asked: list[str]) -> None:
    wait_once(app)
    ids = [call(app) for _ in range(20)]
    for number, task_id in enumerate(ids):
        end(app, task_id, number)
    del asked[:]
    assert [app.AsyncResult(task_id).get(timeout=5) for task_id in ids[:1]] == [0]
    assert asked == []
    # The first wait reads its own: the others are read with those after them, or looked for
    assert [app.AsyncResult(task_id).get(timeout=5) for task_id in reversed(ids)] == [*reversed(range(20))]


def test_a_group_is_told_too(app: App, asked: list[str]) -> None:
    wait_once(app)
    results = app.ResultSet([app.AsyncResult(call(app)) for _ in range(20)])
    caller = app.thread_oid
    del asked[:]

    def end_all() -> None:
        for one in results:
            end(app, one.id, caller=caller)

    timer = threading.Timer(0.05, end_all)
    timer.start()
    assert results.join_native(timeout=5) == [7] * 20
    timer.join()
    assert "SUBSCRIBE" not in asked


def test_what_nobody_tells_is_found(app: App) -> None:
    # Given workers that do not know the caller's channel
    wait_once(app)
    for misses in range(1, waiting.MISSES + 1):
        task_id = call(app)
        end(app, task_id, caller="another")
        assert app.AsyncResult(task_id).get(timeout=5) == 7
        assert app.backend.result_consumer._misses == misses
    # Then a caller does without, and does not wait for it any more
    task_id = call(app)
    assert not app.backend.result_consumer.tells(task_id)
    end(app, task_id, caller="another")
    assert app.AsyncResult(task_id).get(timeout=5) == 7


def test_who_does_not_wait_any_more_is_told_nothing(app: App, redis: OwnRedis) -> None:
    wait_once(app)
    client, channel = app.backend.client, app.backend.callers_channel(app.thread_oid)
    assert client.pubsub_numsub(channel) == [(channel, 1)]
    for _ in range(waiting.MOST + 1):
        end(app, call(app))
    eventually(lambda: client.pubsub_numsub(channel) == [(channel, 0)])
    # And who waits again is told again
    wait_once(app)
    assert client.pubsub_numsub(channel) == [(channel, 1)]


def test_a_connection_that_is_lost_loses_no_result(app: App) -> None:
    wait_once(app)
    for _ in range(3):
        task_id = call(app)
        app.backend.client.client_kill_filter(_type="pubsub")
        end(app, task_id)
        assert app.AsyncResult(task_id).get(timeout=5) == 7


def test_with_redis_away_a_call_does_not_wait(make_app: Callable[..., App], tmp_path: Path) -> None:
    server = OwnRedis(tmp_path)
    server.start()
    try:
        app = make_app(broker_url="amqp://nobody@127.0.0.1:1//", redis_url=server.url)
        wait_once(app)
    finally:
        server.stop()
    began = monotonic()
    for _ in range(waiting.MOST * 2):
        call(app)
    assert monotonic() - began < 1


def test_another_threads_calls_are_not_told_to_this_one(app: App) -> None:
    wait_once(app)
    told: list[bool] = []
    backend = app.backend

    def elsewhere() -> None:
        # With the same store, as where it is said to be safe for threads.
        task_id = str(uuid4())
        backend.on_task_call(None, task_id)
        told.append(backend.result_consumer.tells(task_id))

    other = threading.Thread(target=elsewhere)
    other.start()
    other.join()
    assert told == [False]


def test_a_wait_that_is_given_up_leaves_nothing(app: App) -> None:
    wait_once(app)
    consumer = app.backend.result_consumer
    result = app.AsyncResult(call(app))
    with pytest.raises(TimeoutError):
        result.get(timeout=0.05)
    result.forget()
    del result
    assert not consumer._told and not consumer._awaited
