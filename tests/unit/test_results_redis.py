"""What a result costs Redis, and what may overwrite it."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import states
from redis import Redis

from shared.app import App
from tests.servers import OwnRedis


@pytest.fixture
def app(make_app: Callable[..., App], redis: OwnRedis) -> App:
    return make_app(broker_url="amqp://nobody@127.0.0.1:1//", redis_url=redis.url)


@pytest.fixture
def asked(app: App, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The commands that went to Redis and had to be waited for."""
    names: list[str] = []
    sent = Redis.execute_command

    def execute(self: Any, *arguments: Any, **options: Any) -> Any:
        names.append(arguments[0])
        return sent(self, *arguments, **options)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(Redis, "execute_command", execute)
    yield names


def test_a_result_is_stored_in_one_step(app: App, asked: list[str]) -> None:
    app.backend.store_result("one-step", 7, states.SUCCESS)
    assert asked == ["EVAL"]
    assert app.backend.get_task_meta("one-step")["result"] == 7


def test_whoever_waits_for_a_result_that_is_there_subscribes_to_nothing(app: App, asked: list[str]) -> None:
    app.backend.store_result("there", {"a": 1}, states.SUCCESS)
    del asked[:]
    assert app.AsyncResult("there").get(timeout=5) == {"a": 1}
    assert asked == ["GET"] and not app.backend.result_consumer.subscribed_to
    # And an error that is there is raised
    app.backend.store_result("failed", ValueError("no"), states.FAILURE)
    with pytest.raises(ValueError, match="no"):
        app.AsyncResult("failed").get(timeout=5)


def test_a_success_is_final(app: App) -> None:
    for state in (states.STARTED, states.RETRY, states.SUCCESS):
        app.backend.store_result("final", ValueError("again") if state == states.RETRY else 7, state)
        assert stored(app, "final") == state
    for state in (states.FAILURE, states.STARTED):
        app.backend.store_result("final", ValueError("late") if state == states.FAILURE else None, state)
        assert stored(app, "final") == states.SUCCESS


def stored(app: App, id: str) -> Any:
    """The state in Redis. A process keeps what is final."""
    return app.backend._get_task_meta_for(id)["status"]


def test_a_result_and_the_index_of_its_family_last_as_long_as_the_setting_says(app: App) -> None:
    backend, request = app.backend, SimpleNamespace(root_id="first", group="parts", delivery_info=None)
    for expires, lasts in ((60, range(50, 61)), (None, [-1])):
        backend.expires = expires
        backend.store_result(f"member-{expires}", 1, states.SUCCESS, request=request)
        assert backend.client.ttl(backend.get_key_for_task(f"member-{expires}")) in lasts
    assert backend.family("first") == ["member-60", "member-None"]
    assert backend.first_of("parts") == "first"
