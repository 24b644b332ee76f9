"""Celery's configuration, by what the process was told and by whose it is."""

import random
from pathlib import Path
from typing import Any

from celery.schedules import crontab
from celery.schedules import schedule as Every

from shared import keys, redis_broker, scope, serializers, tls
from shared.config import Settings
from shared.routing import queue, route
from shared.signatures import declarations
from shared.spec import Schedule, ServiceSpec
from shared.topology import SERVICES, TASKS_EXCHANGE


def common(settings: Settings, spec: ServiceSpec | None) -> dict[str, Any]:
    """Of every app."""

    def by_name(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> dict[str, str]:
        return route(spec, name, args, kwargs)

    known = (spec,) if spec is not None and settings.declared_ahead else SERVICES
    return {
        "accept_content": [serializers.SERIALIZERS[name].content_type for name in settings.accepts],
        "task_serializer": serializers.SERIALIZERS[settings.task_serializer].kombu,
        "task_compression": None if settings.task_compression == "none" else settings.task_compression,
        # JSON always: whoever called without Celery reads it.
        "result_serializer": "json",
        "result_accept_content": ["json"],
        "timezone": "UTC",
        # Topology. A worker binds and detects by the queues that its app knows: only its own. A publisher knows all,
        # because Celery delays by the broker only where it knows a quorum queue.
        "task_queues": [
            queue(one, declared_ahead=settings.declared_ahead, quorum=not settings.over_redis) for one in known
        ],
        "task_routes": [by_name],
        "task_create_missing_queues": False,
        "task_default_exchange": TASKS_EXCHANGE,
        "task_default_exchange_type": "topic",
        "task_default_queue": spec.name if spec else SERVICES[0].name,
        # Losing nothing: a message is acknowledged after its task, given back when its process dies, and a final
        # failure or a timeout rejects it to the dead-letter queue.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure_or_timeout": False,
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_prefetch_multiplier": 1,
        "task_soft_time_limit": spec.soft_time_limit if spec else None,
        "task_time_limit": spec.time_limit if spec else None,
        # Results are kept where somebody reads them, as each signature says.
        "task_ignore_result": True,
        "result_expires": 24 * 3600,
        "result_extended": True,
        # Flower's view.
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "worker_consumer": "shared.consumer:Consumer",
        "beat_schedule": {} if spec else _schedule(),
    }


def _schedule() -> dict[str, Any]:
    """What beat publishes. Its arguments are checked here, so that a wrong one stops beat and not the task at night."""
    known = declarations()
    return {
        schedule.name: {
            "task": schedule.task,
            "schedule": Every(schedule.every) if schedule.every else crontab.from_string(schedule.crontab),
            "kwargs": known[schedule.task](**schedule.kwargs).kwargs,
            # Nobody waits for a tick's result. One that its service did not take in time makes room for the next.
            "options": {
                "ignore_result": True,
                "expires": schedule.expires,
                **headers(schedule),
                **({"link": [known[schedule.then].s()]} if schedule.then else {}),
            },
        }
        for spec in SERVICES
        for schedule in spec.schedules
    }


def headers(schedule: Schedule) -> dict[str, Any]:
    """The headers of a tick: the scope that it has."""
    with scope.scope(**schedule.scope):
        values = scope.current()
    return {"headers": {scope.HEADER: values}} if values else {}


def cluster(settings: Settings) -> dict[str, Any]:
    """Of an app with servers."""
    urls = settings.broker_urls().split(";")
    # Each process begins with another node, and goes on to the next one from there: clients spread over a cluster.
    broker, redis = ";".join(random.sample(urls, len(urls))), settings.redis_location()
    return {
        "broker_url": broker,
        "broker_read_url": broker,
        "broker_write_url": broker,
        "broker_use_ssl": tls.broker_options(settings),
        "broker_heartbeat": 30,
        # Without confirms a message that the broker refuses disappears in silence.
        "broker_transport_options": (
            redis_broker.transport_options(settings)
            if settings.over_redis
            else {"confirm_publish": True, "confirm_timeout": settings.publish_timeout}
        ),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A control queue that the broker has not yet taken away after a lost connection answers 405 once.
        "broker_channel_error_retry": True,
        "control_queue_exclusive": True,
        "control_queue_durable": False,
        "event_queue_exclusive": True,
        "event_queue_durable": False,
        "result_backend": f"shared.results.redis:RedisBackend+{redis}",
        "redis_backend_use_ssl": tls.redis_options(settings) or None,
        "redis_socket_connect_timeout": 3.0,
        "redis_socket_timeout": 10.0,
        "redis_backend_health_check_interval": 30,
        "result_backend_transport_options": {
            "retry_policy": {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 1}
        },
    }


def beat(settings: Settings) -> dict[str, Any]:
    """Of a publisher with servers, which may be beat."""
    # Not in a worker: Celery shows Flower a worker's settings, and does not know that this one holds a password.
    return {
        "beat_scheduler": "shared.beat.Scheduler",
        "redbeat_key_prefix": keys.SCHEDULE,
        "redbeat_redis_url": settings.redis_location(),
        # Else RedBeat takes over the broker's.
        "redbeat_redis_use_ssl": tls.redis_options(settings) or None,
        # Else RedBeat takes over the broker's options.
        "redbeat_redis_options": {"socket_connect_timeout": 3.0, "socket_timeout": 10.0, "retry_period": 60},
        "beat_max_loop_interval": 10,
        # Five missed loops: the other beat takes over.
        "redbeat_lock_timeout": 50,
    }


def embedded(settings: Settings) -> dict[str, Any]:
    """Of an app without servers."""
    from shared.embedded import transport

    transport.register()
    root = settings.local_dir.absolute()
    messages, control = root / "broker" / "messages", root / "broker" / "control"
    for folder in (messages, control):
        folder.mkdir(parents=True, exist_ok=True)
    return {
        "broker_url": f"{transport.SCHEME}://",
        # Where these are set, CELERY_BROKER_URL, which may be another program's, says nothing.
        "broker_read_url": f"{transport.SCHEME}://",
        "broker_write_url": f"{transport.SCHEME}://",
        "broker_transport_options": {
            "data_folder_in": str(messages),
            "data_folder_out": str(messages),
            "control_folder": Path(control),
            # Seconds between two looks into the folder.
            "polling_interval": 0.05,
        },
        "result_backend": f"shared.results.sqlite:SqliteBackend+sqlite:///{root / 'results.sqlite'}",
        "beat_schedule_filename": str(root / "beat-schedule"),
    }
