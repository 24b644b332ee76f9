"""Run in a service's container, with its own password: tries what belongs to others; prints the broker's answers.

Usage: trespass.py '{"own": "calculator", "others": ["mailer"], "calls": ["webhook"]}', where `calls` are those whose
tasks it may publish.
"""

import importlib
import json
import sys
from collections.abc import Callable, Collection
from operator import methodcaller
from typing import Any

import amqp


def attempts(own: str, others: Collection[str], calls: Collection[str]) -> dict[str, Callable[[Any], Any]]:
    """What is tried on a channel, by what it would be."""

    def publish(exchange: str, key: str) -> Callable[[Any], Any]:
        return methodcaller("basic_publish", amqp.Message("{}"), exchange=exchange, routing_key=key)

    tried: dict[str, Callable[[Any], Any]] = {
        "shut every worker down": publish("celery.pidbox", ""),
        "publish by the default exchange": publish("", f"{own}.dead"),
        "read what nobody routed": methodcaller("basic_get", "unrouted"),
        "declare a queue": methodcaller("queue_declare", f"{own}.more"),
        "listen to everybody's tasks": methodcaller("queue_bind", own, "tasks", "#"),
    }
    for other in others:
        tried |= {
            f"take from {other}": methodcaller("basic_get", other),
            f"consume {other}": methodcaller("basic_consume", other, callback=id),
            f"empty {other}": methodcaller("queue_purge", other),
            f"delete {other}": methodcaller("queue_delete", other),
            f"read the dead letters of {other}": methodcaller("basic_get", f"{other}.dead"),
            f"write dead letters of {other}": publish("tasks.dead", other),
            f"take the commands of {other}": methodcaller("queue_declare", f"{other}@host.celery.pidbox"),
        }
        if other not in calls:
            tried[f"call {other}"] = publish("tasks", f"{other}.chaos.effect")
    return tried


def main(own: str, others: Collection[str], calls: Collection[str]) -> None:
    """Each attempt has a channel of its own: the broker closes the one that it refuses something on."""
    app = importlib.import_module(f"services.{own}.app").app
    answers = {}
    with app.connection_for_write() as connection:
        for what, attempt in attempts(own, others, calls).items():
            channel = connection.channel()
            try:
                attempt(channel)
                # A publish is refused only when the broker looks at it, which it has done when it answers this.
                channel.basic_qos(0, 1, False)
                answers[what] = "allowed"
            except amqp.AccessRefused:
                answers[what] = "ACCESS_REFUSED"
            except amqp.ChannelError as error:
                answers[what] = type(error).__name__
    print(json.dumps(answers))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
