"""A collector of OpenTelemetry, over HTTP: keeps in memory what it is sent."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

#: Numbers of `Span.SpanKind` and of `Status.StatusCode` in the protocol.
KINDS = {2: "SERVER", 4: "PRODUCER", 5: "CONSUMER"}
ERROR = 2


@dataclass(frozen=True)
class Span:
    """A span as it arrived. Ids are hexadecimal; `parent` is empty where there is none; times are seconds."""

    service: str
    instance: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    start: float
    end: float
    failed: bool
    attributes: dict[str, Any]
    events: tuple[str, ...]


class Collector:
    """Takes `POST /v1/traces`.

    Attributes:
        spans: in the order of their arrival.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, name="collector")

    @property
    def url(self) -> str:
        """For `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def of(self, name: str) -> list[Span]:
        """The spans called so."""
        return [span for span in list(self.spans) if span.name == name]

    @contextmanager
    def running(self) -> Iterator["Collector"]:
        """Answer until the block ends."""
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
                spans.extend(_read(ExportTraceServiceRequest.FromString(body)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def _read(request: Any) -> Iterator[Span]:
    for group in request.resource_spans:
        about = _values(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Span(
                    service=about["service.name"],
                    instance=about["service.instance.id"],
                    name=span.name,
                    kind=KINDS.get(span.kind, str(span.kind)),
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    start=span.start_time_unix_nano / 1e9,
                    end=span.end_time_unix_nano / 1e9,
                    failed=span.status.code == ERROR,
                    attributes=_values(span.attributes),
                    events=tuple(event.name for event in span.events),
                )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
