"""Calls `calculator.multiply` with a plain AMQP client, without Celery and without `shared`: see docs/messages.md.

BROKER_URL and REDIS_URL hold user and password.
"""

import json
import os
import sys
import time
import uuid
from typing import Any

import pika
import redis

PATIENCE = 30


def publish(url: str, task: str, scope: dict[str, object] | None = None, **arguments: object) -> str:
    """Publish a call of `task` and wait until the broker has it; gives the call's id.

    Raises:
        pika.exceptions.UnroutableError: no queue takes it.
        pika.exceptions.NackError: the queue is full.
    """
    task_id = str(uuid.uuid4())
    headers: dict[str, Any] = {
        "lang": "py",
        "task": task,
        "id": task_id,
        "root_id": task_id,
        "parent_id": None,
        "group": None,
        "retries": 0,
        "eta": None,
        "expires": None,
        "timelimit": [None, None],
        "ignore_result": False,
        # As text, because this client's tables hold no fractions.
        **({"scope": json.dumps(scope)} if scope else {}),
    }
    body = [[], arguments, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(
            "tasks",
            task,
            json.dumps(body).encode(),
            pika.BasicProperties(
                content_type="application/json",
                content_encoding="utf-8",
                correlation_id=task_id,
                delivery_mode=2,
                headers=headers,
            ),
            mandatory=True,
        )
    return task_id


def result(url: str, task_id: str) -> dict[str, object]:
    """What became of the call, once it is known."""
    store = redis.Redis.from_url(url)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        kept = store.get(f"celery-task-meta-{task_id}")
        answer = json.loads(kept) if isinstance(kept, bytes) else {"status": "PENDING"}
        if answer["status"] in ("SUCCESS", "FAILURE", "REVOKED"):
            return answer
        time.sleep(0.05)
    raise TimeoutError(f"no answer from {task_id}")


if __name__ == "__main__":
    a, b = (json.loads(argument) for argument in sys.argv[1:3])
    call = publish(os.environ["BROKER_URL"], "calculator.multiply", a=a, b=b)
    print(json.dumps(result(os.environ["REDIS_URL"], call)))
