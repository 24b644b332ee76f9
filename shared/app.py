"""Celery apps that may do just what their owner may: a service's worker, or a publisher."""

import logging
import math
import os
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from celery import Celery
from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher as CeleryEventDispatcher
from celery.schedules import crontab
from celery.schedules import schedule as Every
from kombu import Exchange, Queue, binding
from kombu.exceptions import LimitExceeded

from shared import compression, keys, redis_broker, scope, serializers, task_logs, tls
from shared.config import Settings
from shared.dead_letters.cause import DUE, FIRST_PUBLISHED, OF_ONE_DELIVERY
from shared.embedded import transport
from shared.errors import Error
from shared.metrics.declared import PUBLISHES
from shared.metrics.kinds import OTHER
from shared.publishing import CONNECT_TIMEOUT, Care, Line, NotSent, PublishError
from shared.signatures import declarations
from shared.stopping import StopInTime
from shared.topology import (
    EVERYONE,
    SERVICES,
    TASKS_EXCHANGE,
    Schedule,
    ServiceSpec,
    queue_arguments,
    service,
    validate,
)

logger = logging.getLogger(__name__)

#: Celery's own tasks say of their result what the configuration says, and not what those say that they work for.
_ANSWERING_BUILTINS = scope.ITERATING | {"celery.accumulate"}

#: `celery` copies BROKER_URL there, and Celery lets them win over the URLs that have the password.
_CELERYS_OWN_URLS = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND")


#: With what the name of a task may begin, where its publishes are counted.
_PREFIXES = frozenset({*(spec.name for spec in SERVICES), EVERYONE, "celery"})


class EventDispatcher(CeleryEventDispatcher):
    """Sends events to an exchange that is there already: a service may write to it, not declare it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.exchange.no_declare = self.app.settings.declared_ahead


class Events(CeleryEvents):
    """Celery's events, through the dispatcher above."""

    dispatcher_cls = EventDispatcher


class App(Celery):
    """A Celery app that knows its settings and publishes with care.

    Attributes:
        settings: what the process was told from outside.
        spec: the service whose worker this is; None for a publisher.
    """

    amqp_cls = "shared.tls:AMQP"
    events_cls = Events
    control_cls = "shared.control:Control"
    settings: Settings
    spec: ServiceSpec | None

    @cached_property
    def Worker(self) -> Any:
        """The class of its worker."""
        return self.subclass_with_self("shared.worker:Worker")

    def send_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Publish a task; see Celery's own.

        The broker confirms each message, or the call raises within `publish_timeout`, or within its own
        `confirm_timeout`, in seconds. A delay is rounded up to whole seconds, because the broker holds messages for
        whole seconds and kombu refuses anything less than one.

        Raises:
            PublishError: its subclasses say whether the broker has the message.
        """
        options.update(_whole_seconds(options.get("countdown"), options.get("eta"), self.now()))
        given = {key: value for key, value in (options.get("headers") or {}).items() if key not in OF_ONE_DELIVERY}
        now = self.now()
        due = _due(options, now)
        options["headers"] = {FIRST_PUBLISHED: now.isoformat(), **given, DUE: due.isoformat()}
        # The broker tells it of each queue's first message.
        options["timestamp"] = int(due.timestamp())
        # What no binding takes goes to the alternate exchange. Where that has no queue either, the message comes back.
        options.setdefault("mandatory", True)
        if options.get("ignore_result") is None or (name in _ANSWERING_BUILTINS and options["ignore_result"]):
            # By name alone Celery subscribes to the result store for every call, and waits where that is away.
            options["ignore_result"] = self._ignores_result(name, args, kwargs)
        if self.settings.over_redis:
            key = options.get("routing_key") or route(self.spec, name, args, kwargs)["routing_key"]
            redis_broker.check(key, _seconds(options.get("countdown"), options.get("eta"), self.now()), self.settings)
        if not self.settings.declared_ahead:
            # The types of exchanges live in the process that declared them.
            options.setdefault("declare", list(self.amqp.queues.values()))
        care = self.care(options.pop("confirm_timeout", None))
        care = care.of(options.pop("retry", None), options.pop("retry_policy", None))
        with self.producer_or_acquire(options.pop("producer", None)) as producer:
            try:
                result = super().send_task(name, args, kwargs, producer=Line(producer, care), retry=False, **options)
            except PublishError as error:
                PUBLISHES.inc(_service_of(name), error.outcome)
                raise
            PUBLISHES.inc(_service_of(name), "confirmed")
            return result

    def care(self, timeout: float | None = None) -> Care:
        """What may be spent on one message, in `timeout` seconds or `publish_timeout`."""
        care = Care(
            timeout=timeout or self.settings.publish_timeout,
            # A worker on gevent has none.
            connect_timeout=self.conf.broker_connection_timeout or CONNECT_TIMEOUT,
            largest=None if self.settings.embedded else self.settings.max_message_size,
        )
        return care.of(self.conf.task_publish_retry, self.conf.task_publish_retry_policy)

    @contextmanager
    def producer_or_acquire(self, producer: Any = None) -> Iterator[Any]:
        """As Celery's, which waits for ever: for a connection where other threads have them all, and for the broker to
        say goodbye where the block fails.

        Raises:
            NotSent: all connections are in use.
        """
        if producer is not None:
            yield producer
            return
        try:
            connection = self.pool.acquire(block=True, timeout=self.settings.publish_timeout)
        except LimitExceeded as error:
            raise NotSent(
                f"all {self.pool.limit} connections of this process are in use: give it fewer threads, or a larger "
                "broker_pool_limit",
                passing=True,
            ) from error
        try:
            yield self.amqp.Producer(connection, auto_declare=False)
        except BaseException:
            connection.collect()
            raise
        finally:
            connection.release()

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
        servers = _embedded(settings) if settings.embedded else _cluster(settings)
    except Error as error:
        if "celery.bin.celery" not in sys.modules:
            raise
        # Under the `celery` command the message is for a person, who has no use for a stack.
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    if current:
        _prepare_environment(settings)
    serializers.connect(reading=current)
    if current:
        compression.connect()
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
    app.conf.update(servers)
    if spec is None and not settings.embedded:
        app.conf.update(_beat(settings))
    if spec is not None and settings.over_redis:
        from shared import redis_transport

        redis_transport.register()
    if spec is None and settings.over_redis:
        # A worker says so at its start, when it knows where its log goes.
        logger.warning("%s", redis_broker.warning())
    if settings.declared_ahead:
        # Declared ahead, by the broker's definitions: here they are used, and may not be changed.
        app.control.mailbox.exchange.no_declare = True
        app.control.mailbox.reply_exchange.no_declare = True
    if spec is not None:
        # Here, because what it registers stands on this module; and a publisher needs nothing of a worker.
        from shared import everyone
        from shared.worker_health import Status, Watch

        everyone.register(app)
        app.steps["consumer"].add(Watch)
        if settings.status_port is not None:
            app.steps["worker"].add(Status)
    if spec is not None and not settings.embedded:
        app.steps["worker"].add(StopInTime)
    return app


def _prepare_environment(settings: Settings) -> None:
    for name in _CELERYS_OWN_URLS:
        os.environ.pop(name, None)
    for command in ("WORKER", "BEAT"):
        # Where the command line does not say --loglevel.
        os.environ.setdefault(f"CELERY_{command}_LOGLEVEL", settings.log_level)


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


def _beat(settings: Settings) -> dict[str, Any]:
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
    if eta is None:
        return {}
    wait = _seconds(None, eta, now)
    # Celery counts again a moment later: what is just over one second now may be under it then.
    return {"countdown": math.ceil(wait), "eta": None} if 0 < wait < 2 else {}


def _seconds(countdown: float | None, eta: datetime | str | None, now: datetime) -> float:
    """How long a message waits from now on; 0 where it does not."""
    if isinstance(eta, str):
        eta = datetime.fromisoformat(eta)
    if eta is None:
        return max(countdown or 0.0, 0.0)
    return ((eta if eta.tzinfo else eta.replace(tzinfo=now.tzinfo)) - now).total_seconds()


def _due(options: Mapping[str, Any], now: datetime) -> datetime:
    countdown, eta = options.get("countdown"), options.get("eta")
    if countdown is not None:
        return now + timedelta(seconds=countdown)
    if isinstance(eta, str):
        eta = datetime.fromisoformat(eta)
    if eta is None:
        return now
    return max(now, eta if eta.tzinfo else eta.replace(tzinfo=now.tzinfo))


def _service_of(task: str) -> str:
    prefix = task.partition(".")[0]
    return prefix if prefix in _PREFIXES else OTHER


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
