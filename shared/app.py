"""Celery apps that may do just what their owner may: a service's worker, or a publisher."""

import math
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from celery import Celery
from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher as CeleryEventDispatcher
from celery.schedules import crontab
from kombu import Exchange, Queue, binding
from kombu.exceptions import OperationalError

from shared import scope, task_logs
from shared.config import Settings
from shared.dead_letters.cause import FIRST_PUBLISHED
from shared.embedded import transport
from shared.errors import Error
from shared.health import HealthFile
from shared.signatures import declarations
from shared.stopping import StopInTime
from shared.topology import SERVICES, TASKS_EXCHANGE, Schedule, ServiceSpec, queue_arguments, service, validate

#: Celery's own tasks say of their result what the configuration says, and not what those say that they work for.
_ANSWERING_BUILTINS = scope.ITERATING | {"celery.accumulate"}

#: `celery` copies BROKER_URL there, and Celery lets them win over the URLs that have the password.
_CELERYS_OWN_URLS = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND")


class EventDispatcher(CeleryEventDispatcher):
    """Sends events to an exchange that is there already: a service may write to it, not declare it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.exchange.no_declare = not self.app.settings.embedded


class Events(CeleryEvents):
    """Celery's events, through the dispatcher above."""

    dispatcher_cls = EventDispatcher


class App(Celery):
    """A Celery app that knows its settings and publishes with care.

    Attributes:
        settings: what the process was told from outside.
        spec: the service whose worker this is; None for a publisher.
    """

    events_cls = Events
    control_cls = "shared.control:Control"
    settings: Settings
    spec: ServiceSpec | None

    def send_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Publish a task; see Celery's own.

        The broker confirms each message, or the call raises within `publish_timeout`. A delay is rounded up to whole
        seconds, because the broker holds messages for whole seconds and kombu refuses anything less than one.
        """
        options.update(_whole_seconds(options.get("countdown"), options.get("eta"), self.now()))
        options["headers"] = {FIRST_PUBLISHED: self.now().isoformat(), **(options.get("headers") or {})}
        options.setdefault("mandatory", True)
        options.setdefault("confirm_timeout", self.settings.publish_timeout)
        if options.get("ignore_result") is None or (name in _ANSWERING_BUILTINS and options["ignore_result"]):
            # By name alone Celery subscribes to the result store for every call, and waits where that is away.
            options["ignore_result"] = self._ignores_result(name, args, kwargs)
        if self.settings.embedded:
            # Without a server the types of exchanges live in the process that declared them.
            options.setdefault("declare", list(self.amqp.queues.values()))
        with self.producer_or_acquire(options.pop("producer", None)) as producer:
            try:
                return super().send_task(name, args, kwargs, producer=producer, **options)
            except (OperationalError, OSError):
                # The channel still waits for a confirmation, and would take it for that of the next message.
                producer.connection.collect()
                raise

    def _ignores_result(self, name: str, args: Any, kwargs: Any) -> bool:
        if name == "celery.accumulate":
            # Joins the group that took a task's place: what it returns is that task's result.
            return False
        # What runs a task for each item answers where that task does.
        inner = _iterated(name, args, kwargs)
        declared = declarations().get(inner["task"] if inner else name)
        if declared is None and inner:
            return bool((inner.get("options") or {}).get("ignore_result", self.conf.task_ignore_result))
        return not declared.keeps_result if declared else self.conf.task_ignore_result


def create_app(name: str | None = None, *, settings: Settings | None = None, current: bool = True) -> App:
    """The app of the service called `name`, or of a publisher.

    Args:
        current: whether it becomes Celery's current app. A guest in another program, which may have a Celery of its
            own, leaves that program's app and environment alone.

    Raises:
        ConfigError: a setting is wrong.
        TopologyError: no service is called so, or the topology contradicts itself.
    """
    try:
        settings = settings or Settings.load()
        validate()
        spec = service(name) if name else None
    except Error as error:
        if "celery.bin.celery" not in sys.modules:
            raise
        # Under the `celery` command the message is for a person, who has no use for a stack.
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    if current:
        _prepare_environment(settings)
    app = App(name or "publisher", include=[f"services.{name}.tasks"] if name else [], set_as_current=current)
    scope.connect()
    if current:
        # The current app is one thread's; the others of this process, which publish too, have the default one.
        app.set_default()
        task_logs.connect(settings)
    app.settings = settings
    app.spec = spec
    # Celery's own tasks become dead letters with a cause too.
    app.Task.Request = "shared.worker_request:Request"
    app.conf.update(_common(settings, spec))
    app.conf.update(_embedded(settings) if settings.embedded else _cluster(settings))
    if spec is None and not settings.embedded:
        app.conf.update(_beat(settings))
    if not settings.embedded:
        # Declared ahead, by the broker's definitions: here they are used, and may not be changed.
        app.control.mailbox.exchange.no_declare = True
        app.control.mailbox.reply_exchange.no_declare = True
    if spec is not None:
        # Here, because what it registers stands on this module.
        from shared import everyone

        everyone.register(app)
    if spec is not None and not settings.embedded:
        app.steps["worker"].add(StopInTime)
    if spec is not None and settings.health_file is not None:
        app.steps["consumer"].add(HealthFile)
    return app


def _prepare_environment(settings: Settings) -> None:
    for name in _CELERYS_OWN_URLS:
        os.environ.pop(name, None)
    for command in ("WORKER", "BEAT"):
        # Where the command line does not say --loglevel.
        os.environ.setdefault(f"CELERY_{command}_LOGLEVEL", settings.log_level)


def queue(spec: ServiceSpec, *, declared_ahead: bool) -> Queue:
    """A service's queue with its bindings, as a value."""
    exchange = Exchange(TASKS_EXCHANGE, type="topic", no_declare=declared_ahead)
    return Queue(
        spec.name,
        bindings=[binding(exchange, key) for key in spec.binding_keys],
        queue_arguments=queue_arguments(spec.name),
        no_declare=declared_ahead,
    )


def route(owner: ServiceSpec | None, name: str, args: Any, kwargs: Mapping[str, Any] | None) -> dict[str, str]:
    """Where a task goes: to the tasks exchange, by its name.

    Celery's built-in tasks belong to no service by their name. Those that iterate go to the service of the task
    that they run; the others to the service that publishes them.
    """
    key = name
    if inner := _iterated(name, args, kwargs):
        key = f"{inner['task'].partition('.')[0]}.{name}"
    elif name.startswith("celery.") and owner is not None:
        key = f"{owner.name}.{name}"
    return {"exchange": TASKS_EXCHANGE, "exchange_type": "topic", "routing_key": key}


def _iterated(name: str, args: Any, kwargs: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The signature that a built-in task runs for each item; None for every other task."""
    if name not in scope.ITERATING:
        return None
    return (kwargs or {}).get("task") or (args[0] if args else None)


def _common(settings: Settings, spec: ServiceSpec | None) -> dict[str, Any]:
    def by_name(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> dict[str, str]:
        return route(spec, name, args, kwargs)

    known = (spec,) if spec is not None and not settings.embedded else SERVICES
    return {
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "timezone": "UTC",
        # Topology. A worker binds and detects by the queues that its app knows: only its own. A publisher knows all,
        # because Celery delays by the broker only where it knows a quorum queue.
        "task_queues": [queue(one, declared_ahead=not settings.embedded) for one in known],
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
        f"{schedule.task}@{schedule.crontab}": {
            "task": schedule.task,
            "schedule": crontab.from_string(schedule.crontab),
            "kwargs": known[schedule.task](**schedule.kwargs).kwargs,
            # Nobody waits for a tick's result. One that its service did not take in time makes room for the next.
            "options": {
                "ignore_result": True,
                "expires": schedule.expires,
                **_headers(schedule),
                **({"link": [known[schedule.then].s()]} if schedule.then else {}),
            },
        }
        for spec in SERVICES
        for schedule in spec.schedules
    }


def _headers(schedule: Schedule) -> dict[str, Any]:
    with scope.scope(**schedule.scope):
        values = scope.current()
    return {"headers": {scope.HEADER: values}} if values else {}


def _cluster(settings: Settings) -> dict[str, Any]:
    broker, redis = settings.broker_urls(), settings.redis_location()
    return {
        "broker_url": broker,
        "broker_read_url": broker,
        "broker_write_url": broker,
        "broker_transport": "shared.amqp_transport:Transport",
        "broker_heartbeat": 30,
        # Without confirms a message that the broker refuses disappears in silence.
        "broker_transport_options": {"confirm_publish": True, "confirm_timeout": settings.publish_timeout},
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A control queue that the broker has not yet taken away after a lost connection answers 405 once.
        "broker_channel_error_retry": True,
        "control_queue_exclusive": True,
        "control_queue_durable": False,
        "event_queue_exclusive": True,
        "event_queue_durable": False,
        "result_backend": f"shared.results.redis:RedisBackend+{redis}",
        "redis_socket_connect_timeout": 3.0,
        "redis_socket_timeout": 10.0,
        "redis_backend_health_check_interval": 30,
        "result_backend_transport_options": {
            "retry_policy": {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 1}
        },
    }


def _beat(settings: Settings) -> dict[str, Any]:
    # Not in a worker: Celery shows Flower a worker's settings, and does not know that this one holds a password.
    return {
        "beat_scheduler": "shared.beat.Scheduler",
        "redbeat_redis_url": settings.redis_location(),
        # Else RedBeat takes over the broker's options.
        "redbeat_redis_options": {"socket_connect_timeout": 3.0, "socket_timeout": 10.0, "retry_period": 60},
        "beat_max_loop_interval": 10,
        # Five missed loops: the other beat takes over.
        "redbeat_lock_timeout": 50,
    }


def _embedded(settings: Settings) -> dict[str, Any]:
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


def _whole_seconds(countdown: float | None, eta: datetime | str | None, now: datetime) -> dict[str, Any]:
    if countdown is not None and countdown > 0:
        return {"countdown": math.ceil(countdown)}
    if isinstance(eta, str):
        eta = datetime.fromisoformat(eta)
    if eta is None:
        return {}
    wait = ((eta if eta.tzinfo else eta.replace(tzinfo=now.tzinfo)) - now).total_seconds()
    # Celery counts again a moment later: what is just over one second now may be under it then.
    return {"countdown": math.ceil(wait), "eta": None} if 0 < wait < 2 else {}


def __getattr__(name: str) -> App:
    # `celery -A shared.app` and publishers get their app here. It is made at first use, so that a worker, which
    # imports this module for its own app, does not also have this one.
    if name == "app":
        app = globals()["app"] = create_app()
        if "celery.bin.celery" in sys.modules:
            from shared.cli.report import install

            install()
        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
