"""Spans on their way to a collector: in batches, by a thread of each process, and nobody waits for them.

A pool's processes are forked, and no thread is forked along: each process makes a provider for itself, at its start. It
sends what it has left when it ends; of a pool's process, which leaves without Python's own way out, Celery says when.
"""

import atexit
import os
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

from celery import signals
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import Tracer

#: Seconds that a collector may take for a batch, unless OTEL_EXPORTER_OTLP_TIMEOUT says otherwise; and that a process
#: which ends gives to what it has left.
TIMEOUT = 2.0


class Exporter(OTLPSpanExporter):
    """OpenTelemetry's, which does not hold up a process that ends."""

    def __init__(self, endpoint: str) -> None:
        given = os.environ.get("OTEL_EXPORTER_OTLP_TIMEOUT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
        # None: the variables are read by the exporter itself.
        super().__init__(f"{endpoint.rstrip('/')}/v1/traces", timeout=None if given else TIMEOUT)
        #: Whether the collector did not take the last batch.
        self.away = False
        self._until: float | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """As the other; nothing any more once the process has waited for long enough."""
        if self._until is not None and time.monotonic() > self._until:
            return SpanExportResult.FAILURE
        done = super().export(spans)
        self.away = done is not SpanExportResult.SUCCESS
        return done

    def hurry(self) -> None:
        """The process ends."""
        self._until = time.monotonic() + TIMEOUT


class Exporting:
    """The provider of each process.

    Args:
        endpoint: of a collector that speaks OTLP over HTTP, without `/v1/traces`.
        service: the name of the service.
    """

    def __init__(self, endpoint: str, service: str) -> None:
        self._endpoint, self._service = endpoint, service
        self._process: int | None = None
        self._lock = threading.Lock()
        # Another thread of the parent may have held it.
        os.register_at_fork(after_in_child=self._renew_lock)
        # A tenth of a second that no task should take.
        signals.worker_process_init.connect(self._start, weak=False, dispatch_uid=f"spans-{id(self)}")
        self._tracer: Tracer
        self._provider: TracerProvider
        self._exporter: Exporter

    def tracer(self) -> Tracer:
        """The tracer of this process."""
        if self._process != os.getpid():
            with self._lock:
                if self._process != os.getpid():
                    self._begin()
        return self._tracer

    def close(self, **_: Any) -> None:
        """Send what this process has left, in bounded time; nothing where the collector is known to be away."""
        if self._process != os.getpid():
            return
        self._process = None
        if not self._exporter.away:
            self._exporter.hurry()
            self._provider.shutdown()

    def _start(self, **_: Any) -> None:
        self.tracer()

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def _begin(self) -> None:
        named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": self._service}
        resource = Resource.create(
            {**named, "service.namespace": "taskhouse", "service.instance.id": f"{socket.gethostname()}:{os.getpid()}"}
        )
        self._exporter = Exporter(self._endpoint)
        # Not by the provider itself: it would wait for half a minute.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("taskhouse")
        if self._process is None:
            signals.worker_process_shutdown.connect(self.close, weak=False, dispatch_uid=id(self))
            atexit.register(self.close)
        self._process = os.getpid()
