"""Spans of publishes and of runs, joined by the message header `traceparent`.

Names and attributes: OpenTelemetry, "Semantic conventions for messaging spans" and "for RabbitMQ"; the header: W3C,
"Trace Context". Why not `opentelemetry-instrumentation-celery`: docs/decisions.md.
"""

import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from billiard.einfo import ExceptionWithTraceback
from celery import signals
from celery.utils import uuid
from opentelemetry import context, trace
from opentelemetry.sdk.trace import Span
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.config import Settings
from shared.dead_letters.cause import origin
from shared.telemetry.exporting import Exporting
from shared.topology import TASKS_EXCHANGE

#: Characters of what an exception says.
LONGEST = 1000
_propagator = TraceContextTextMapPropagator()


class Spans:
    """The spans of one app."""

    def __init__(self, settings: Settings, service: str) -> None:
        assert settings.otel_exporter_otlp_endpoint
        self._exporting = Exporting(settings.otel_exporter_otlp_endpoint, service)
        self._system = "redis" if settings.over_redis else "filesystem" if settings.embedded else "rabbitmq"
        self._address = urlsplit((settings.broker_url or "").split(";")[0]).hostname
        connect()

    def close(self) -> None:
        """Send what there is, in bounded time."""
        self._exporting.close()

    @contextmanager
    def publishing(self, task: str, options: MutableMapping[str, Any]) -> Iterator[None]:
        """The span of one publish, which the message names as its sender. An attempt of a retry is published too."""
        options["task_id"] = task_id = options.get("task_id") or uuid()
        key = options.get("routing_key") or task
        attributes = {
            **self._common("publish", "send", task, task_id, options.get("root_id") or task_id),
            "messaging.destination.name": f"{options.get('exchange') or TASKS_EXCHANGE}:{key}",
            "messaging.rabbitmq.destination.routing_key": str(key),
            "celery.task.retries": options.get("retries") or 0,
        }
        tracer = self._exporting.tracer()
        with tracer.start_as_current_span(
            f"publish {task}",
            kind=SpanKind.PRODUCER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            headers = options["headers"] = dict(options.get("headers") or {})
            # In place of that of the attempt before.
            headers.pop("tracestate", None)
            _propagator.inject(headers)
            try:
                yield
            except Exception as error:
                failed(span, error)
                raise

    def run(self, task: Any, headers: Mapping[str, Any] | None, began: float | None = None) -> Span:
        """The span of a run of `task`, whose request is the current one; it begins now, or at `began`."""
        request = task.request
        told = request.delivery_info or {}
        exchange, key = origin(told.get("exchange"), told.get("routing_key"))
        spec = task.app.spec
        queue = spec.name if spec is not None else ""
        attributes = {
            **self._common("process", "process", task.name, request.id or "", request.root_id or request.id or ""),
            # Over Redis no exchange is named.
            "messaging.destination.name": ":".join(filter(None, (exchange or TASKS_EXCHANGE, key, queue))),
            "messaging.rabbitmq.destination.routing_key": key,
            "celery.task.retries": request.retries or 0,
            "celery.worker": request.hostname or "",
        }
        # What a message of another program has there may be no text.
        carrier = {name: value for name, value in (headers or {}).items() if isinstance(value, str)}
        return self._exporting.tracer().start_span(  # type: ignore[return-value]
            f"process {task.name}",
            context=_propagator.extract(carrier),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            start_time=None if began is None else int(began * 1e9),
        )

    def lost(self, request: Any, error: BaseException) -> None:
        """A run whose process is gone, and its own span with it; told by the worker's main process."""
        span = self.run(request.task, request.request_dict, request.time_start or time.time())
        failed(span, error)
        span.end()

    @contextmanager
    def serving(self, method: str, headers: Mapping[str, str], attributes: Mapping[str, Any]) -> Iterator[Span]:
        """The span of an HTTP request, which becomes the parent of what it publishes."""
        with self._exporting.tracer().start_as_current_span(
            method,
            context=_propagator.extract(dict(headers)),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, **attributes},
        ) as span:
            yield span  # type: ignore[misc]

    def refused(self, span: Span, status: int) -> None:
        """An HTTP request was answered with an error of the server."""
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)

    def _common(self, name: str, kind: str, task: str, task_id: str, root: str) -> dict[str, Any]:
        return {
            "messaging.system": self._system,
            "messaging.operation.name": name,
            "messaging.operation.type": kind,
            "messaging.message.id": task_id,
            # The canvas; `celery -A shared.app trace` takes it too.
            "messaging.message.conversation_id": root,
            "celery.task.name": task,
            **({"server.address": self._address} if self._address else {}),
        }


def failed(span: trace.Span, error: BaseException) -> None:
    """It ended in `error`."""
    if isinstance(error, ExceptionWithTraceback):
        error = error.exc
    span.record_exception(error)
    span.set_attribute("error.type", type(error).__qualname__)
    span.set_status(Status(StatusCode.ERROR, f"{error}"[:LONGEST]))


def connect() -> None:
    """Have each run of a task of this process have its span. A second call does nothing."""
    signals.task_prerun.connect(_begin, dispatch_uid="spans-begin", weak=False)
    signals.task_retry.connect(_retry, dispatch_uid="spans-retry", weak=False)
    signals.task_failure.connect(_failure, dispatch_uid="spans-failure", weak=False)
    signals.task_postrun.connect(_end, dispatch_uid="spans-end", weak=False)


def _begin(task: Any, **_: Any) -> None:
    spans: Spans | None = getattr(task.app, "spans", None)
    # Without an id it is a part of another run: `celery.map` runs its task so.
    if spans is None or not task.request.id:
        return
    span = spans.run(task, task.request.headers)
    # Kept with the request, which is one run's own: runs may be nested, and share a thread.
    task.request.span = (span, context.attach(trace.set_span_in_context(span)))


def _retry(sender: Any, reason: Any, **_: Any) -> None:
    _note(sender, getattr(reason, "exc", None) or reason)


def _failure(sender: Any, exception: BaseException, **_: Any) -> None:
    _note(sender, exception)


def _note(task: Any, error: Any) -> None:
    told = task.request.__dict__.get("span")
    if told is not None:
        failed(told[0], error if isinstance(error, BaseException) else RuntimeError(str(error)))


def _end(task: Any, state: Any = None, **_: Any) -> None:
    told = task.request.__dict__.pop("span", None)
    if told is None:
        return
    span, token = told
    if state:
        span.set_attribute("celery.task.state", str(state))
    context.detach(token)
    span.end()
