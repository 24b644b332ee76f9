"""Whoever waits for a result gets it, also where it comes between the look at the store and the subscription."""

from collections.abc import Callable
from typing import Any

import pytest
from celery import states
from redis.client import PubSub

from shared.app import App
from tests.servers import OwnRedis


def test_a_result_between_the_look_and_the_subscription_is_not_missed(
    make_app: Callable[..., App], redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a subscription that reaches Redis late, over a connection of its own
    app = make_app(broker_url="amqp://nobody@127.0.0.1:1//", redis_url=redis.url)
    consumer, on_its_way = app.backend.result_consumer, list[tuple[Any, ...]]()
    subscribe, look = PubSub.subscribe, consumer.on_wait_for_pending
    monkeypatch.setattr(PubSub, "subscribe", lambda *given: on_its_way.append(given))

    def look_and_then(result: Any, **options: Any) -> None:
        look(result, **options)
        # When the result is stored after the look, and before the subscription is there
        app.backend.store_result(result.id, 7, states.SUCCESS)
        monkeypatch.undo()
        for pubsub, *keys in on_its_way:
            subscribe(pubsub, *keys)

    monkeypatch.setattr(consumer, "on_wait_for_pending", look_and_then)
    # Then it is found all the same
    assert app.AsyncResult("an-id").get(timeout=5) == 7
