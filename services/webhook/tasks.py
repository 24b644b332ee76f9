"""Outcomes by HTTP: what became of a task is POSTed to whoever asked for it."""

import json
from functools import cache

from celery import states

from services.webhook.app import app
from services.webhook.poster import Poster
from shared.errors import Retryable
from shared.signatures import webhook as contract
from shared.tasks import implements


class NotYet(Retryable):
    """The outcome is not stored yet: callbacks are published a moment before it is."""


@cache
def poster() -> Poster:
    """Made at first use, from the settings."""
    return Poster.from_settings(app.settings)


@implements(contract.deliver, app, bind=True, autoretry_for=(Retryable,), max_retries=8)
def deliver(task, task_id, url):
    poster().post(url, task_id, outcome(task.backend, task_id))


def outcome(backend, task_id):
    """What the store keeps of a task that has ended."""
    kept = backend.get(backend.get_key_for_task(task_id))
    meta = json.loads(kept) if kept else {"status": states.PENDING}
    if meta["status"] not in states.READY_STATES:
        raise NotYet(f"the task {task_id} is {meta['status']}", 1)
    return {"id": task_id, "task": meta.get("name"), "status": meta["status"], "result": meta["result"]}
