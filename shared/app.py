"""Celery apps that may do just what their owner may: a service's worker, or a publisher."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

from celery import Celery
from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher as CeleryEventDispatcher
from kombu.exceptions import LimitExceeded

from shared import celery_config, compression, delays, redis_broker, scope, serializers, task_logs, telemetry
from shared.config import Settings
from shared.dead_letters.cause import DUE, FIRST_PUBLISHED, OF_ONE_DELIVERY
from shared.errors import Error
from shared.message_frames import Catcher, Marks, show
from shared.metrics.declared import PUBLISHES
from shared.metrics.kinds import OTHER
from shared.publish_one import Repeats
from shared.publishing import CONNECT_TIMEOUT, Care, Line, NotSent, PublishError
from shared.routing import iterated, route
from shared.signatures import declarations
from shared.spec import EVERYONE, ServiceSpec
from shared.stopping import StopInTime
from shared.topology import SERVICES, service, validate

logger = logging.getLogger(__name__)

#: Celery's own tasks say of their result what the configuration says, and not what those say that they work for.
_ANSWERING_BUILTINS = scope.ITERATING | {"celery.accumulate"}

#: `celery` copies BROKER_URL there, and Celery lets them win over the URLs that have the password.
_CELERYS_OWN_URLS = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND")

#: One of them is there where a person's command runs this process.
_COMMANDS = ("celery.bin.celery", "shared.start")

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
        spans: what tells OpenTelemetry of publishes and runs; None where `OTEL_EXPORTER_OTLP_ENDPOINT` is not set.
    """

    amqp_cls = "shared.tls:AMQP"
    events_cls = Events
    control_cls = "shared.control:Control"
    settings: Settings
    spec: ServiceSpec | None
    spans: Any = None

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
        if self.spans is None:
            return self._publish(name, args, kwargs, options)
        with self.spans.publishing(name, options):
            return self._publish(name, args, kwargs, options)

    def _publish(self, name: str, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        if self._repeats is not None:
            sent = self._repeats.send(name, args, kwargs, options)
            if sent is not None:
                return sent
        return self.publish_by_celery(name, args, kwargs, options)

    @cached_property
    def _repeats(self) -> Repeats | None:
        return Repeats(self) if self.settings.declared_ahead else None

    def publish_by_celery(
        self, name: str, args: Any, kwargs: Any, options: dict[str, Any], marks: Marks | None = None
    ) -> Any:
        """Have Celery write the message of a task, and publish it.

        Args:
            options: of `send_task`. They are used up.
            marks: what the message is to say of its time instead of what that is.

        Raises:
            PublishError: its subclasses say whether the broker has the message.
            Caught: where the producer among `options` is a Catcher.
        """
        options.update(delays.whole_seconds(options.get("countdown"), options.get("eta"), self.now()))
        given = {key: value for key, value in (options.get("headers") or {}).items() if key not in OF_ONE_DELIVERY}
        now = self.now()
        due = delays.due(options, now)
        options["headers"] = {FIRST_PUBLISHED: now.isoformat(), **given, DUE: due.isoformat()}
        # The broker tells it of each queue's first message.
        options["timestamp"] = int(due.timestamp())
        if marks is not None:
            options["headers"] |= {FIRST_PUBLISHED: marks.published, DUE: marks.published}
            options["timestamp"] = marks.timestamp
        # What no binding takes goes to the alternate exchange. Where that has no queue either, the message comes back.
        if options.get("mandatory") is None:
            options["mandatory"] = True
        # What Celery would say of them, in less time.
        levels = self.conf.task_repr_maxlevels
        options.setdefault("argsrepr", show(args or (), self.amqp.argsrepr_maxsize, levels))
        options.setdefault("kwargsrepr", show(kwargs or {}, self.amqp.kwargsrepr_maxsize, levels))
        if options.get("ignore_result") is None or (name in _ANSWERING_BUILTINS and options["ignore_result"]):
            # By name alone Celery subscribes to the result store for every call, and waits where that is away.
            options["ignore_result"] = self._ignores_result(name, args, kwargs)
        if self.settings.over_redis:
            key = options.get("routing_key") or route(self.spec, name, args, kwargs)["routing_key"]
            redis_broker.check(
                key, delays.seconds(options.get("countdown"), options.get("eta"), self.now()), self.settings
            )
        if not self.settings.declared_ahead:
            # The types of exchanges live in the process that declared them.
            options.setdefault("declare", list(self.amqp.queues.values()))
        care = self.care(options.pop("confirm_timeout", None))
        care = care.of(options.pop("retry", None), options.pop("retry_policy", None))
        on_repeat = options.pop("on_repeat", None)
        with self.sending(name, options.pop("producer", None)) as producer:
            line = producer if isinstance(producer, Catcher) else Line(producer, care, on_repeat)
            return super().send_task(name, args, kwargs, producer=line, retry=False, **options)

    @contextmanager
    def sending(self, name: str, producer: Any = None) -> Iterator[Any]:
        """A producer for one task of this name, whose outcome is counted. Raises as `producer_or_acquire`."""
        with self.producer_or_acquire(producer) as producer:
            try:
                yield producer
            except PublishError as error:
                PUBLISHES.inc(service_of(name), error.outcome)
                raise
            PUBLISHES.inc(service_of(name), "confirmed")

    def care(self, timeout: float | None = None) -> Care:
        """What may be spent on one message, in `timeout` seconds or `publish_timeout`."""
        return replace(self._care, timeout=timeout) if timeout else self._care

    @cached_property
    def _care(self) -> Care:
        care = Care(
            timeout=self.settings.publish_timeout,
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
        inner = iterated(name, args, kwargs)
        declared = declarations().get(inner["task"] if inner else name)
        if declared is None and inner:
            return bool((inner.get("options") or {}).get("ignore_result", self.conf.task_ignore_result))
        return not declared.keeps_result if declared else self.conf.task_ignore_result


def create_app(
    name: str | None = None, *, settings: Settings | None = None, current: bool = True, publisher: str = "publisher"
) -> App:
    """The app of the service called `name`, or of a publisher.

    Args:
        current: whether it becomes Celery's current app. A guest in another program, which may have a Celery of its
            own, leaves that program's app and environment alone.
        publisher: under which name the spans of an app without a service are shown.

    Raises:
        ConfigError: a setting is wrong.
        TopologyError: no service is called so, or the topology contradicts itself.
    """
    try:
        settings = settings or Settings.load()
        validate()
        spec = service(name) if name else None
        servers = celery_config.embedded(settings) if settings.embedded else celery_config.cluster(settings)
        spans = telemetry.connect(settings, name or publisher)
    except Error as error:
        if not any(name in sys.modules for name in _COMMANDS):
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
    app.spans = spans
    # Celery's own tasks become dead letters with a cause too.
    app.Task.Request = "shared.worker_request:Request"
    app.conf.update(celery_config.common(settings, spec))
    app.conf.update(servers)
    if spec is None and not settings.embedded:
        app.conf.update(celery_config.beat(settings))
    if settings.over_redis:
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
        from shared import everyone, joins
        from shared.worker_health import Status, Watch

        joins.connect()
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


def service_of(task: str) -> str:
    """What the publishes of a task are counted under."""
    prefix = task.partition(".")[0]
    return prefix if prefix in _PREFIXES else OTHER


def __getattr__(name: str) -> App:
    # `celery -A shared.app` and publishers get their app here. It is made at first use, so that a worker, which
    # imports this module for its own app, does not also have this one.
    if name == "app":
        app = globals()["app"] = create_app()
        if "celery.bin.celery" in sys.modules:
            from shared.cli.install import install

            install()
        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
