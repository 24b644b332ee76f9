"""Where a task's message goes: the queues of services, and the key by which a task reaches one."""

from collections.abc import Mapping
from typing import Any

from kombu import Exchange, Queue, binding

from shared import scope
from shared.spec import ServiceSpec
from shared.topology import TASKS_EXCHANGE, queue_arguments


def queue(spec: ServiceSpec, *, declared_ahead: bool, quorum: bool = True) -> Queue:
    """A service's queue with its bindings, as a value."""
    exchange = Exchange(TASKS_EXCHANGE, type="topic", no_declare=declared_ahead)
    return Queue(
        spec.name,
        bindings=[binding(exchange, key) for key in spec.binding_keys],
        # To another broker they mean nothing.
        queue_arguments=queue_arguments(spec.name) if quorum else None,
        no_declare=declared_ahead,
    )


def route(owner: ServiceSpec | None, name: str, args: Any, kwargs: Mapping[str, Any] | None) -> dict[str, str]:
    """Where a task goes: to the tasks exchange, by its name.

    Celery's built-in tasks belong to no service by their name. Those that iterate go to the service of the task
    that they run; the others to the service that publishes them.
    """
    key = name
    if inner := iterated(name, args, kwargs):
        key = f"{inner['task'].partition('.')[0]}.{name}"
    elif name.startswith("celery.") and owner is not None:
        key = f"{owner.name}.{name}"
    return {"exchange": TASKS_EXCHANGE, "exchange_type": "topic", "routing_key": key}


def iterated(name: str, args: Any, kwargs: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The signature that a built-in task runs for each item; None for every other task."""
    if name not in scope.ITERATING:
        return None
    return (kwargs or {}).get("task") or (args[0] if args else None)
