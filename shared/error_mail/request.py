"""The HTTP request that a log record is about, whatever framework it came through."""

import logging
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

#: Headers that help to find a fault. All others stay where they are: who they name is nobody's business in a mailbox.
SHOWN_HEADERS = frozenset(
    {
        "accept",
        "accept-language",
        "content-length",
        "content-type",
        "host",
        "origin",
        "referer",
        "traceparent",
        "user-agent",
        "x-correlation-id",
        "x-request-id",
    }
)
#: Frames that are searched for the server's own idea of the request.
MOST_FRAMES = 200


@dataclass(frozen=True)
class Request:
    """What a report tells of a request.

    Attributes:
        headers: all of them; `SHOWN_HEADERS` are told, the secret ones are known by it and looked for.
        form: the fields of the POST, where the framework has read them.
    """

    method: str
    path: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    form: list[tuple[str, str]] = field(default_factory=list)


def find(record: logging.LogRecord) -> Request | None:
    """The request of `record`, or None: then it has none, or keeps it to itself."""
    for look in (_django, _flask, _server):
        try:
            found = look(record)
        except Exception:  # a half-read body, a closed context: the report is worth more than its request
            continue
        if found is not None:
            return found
    return None


def _django(record: logging.LogRecord) -> Request | None:
    request: Any = getattr(record, "request", None)
    if request is None or not hasattr(request, "META"):
        return None
    form = [(name, value) for name, values in request.POST.lists() for value in values]
    return Request(str(request.method), request.get_full_path(), list(request.headers.items()), form)


def _flask(record: logging.LogRecord) -> Request | None:
    flask: Any = sys.modules.get("flask")
    if flask is None or not flask.has_request_context():
        return None
    request = flask.request
    path = request.full_path if request.query_string else request.path
    return Request(request.method, path, list(request.headers.items()), list(request.form.items(multi=True)))


def _server(record: logging.LogRecord) -> Request | None:
    """From the frames of the traceback: an ASGI server calls with a `scope`, a WSGI server with an `environ`."""
    if not record.exc_info or record.exc_info[2] is None:
        return None
    for variables in _locals(record.exc_info[2]):
        scope, environ = variables.get("scope"), variables.get("environ")
        if isinstance(scope, dict) and scope.get("type") == "http" and "headers" in scope:
            return _asgi(scope)
        if isinstance(environ, dict) and "REQUEST_METHOD" in environ:
            return _wsgi(environ)
    return None


def _locals(traceback: TracebackType) -> Iterator[Mapping[str, Any]]:
    frame: TracebackType | None = traceback
    for _ in range(MOST_FRAMES):
        if frame is None:
            return
        yield frame.tb_frame.f_locals
        frame = frame.tb_next


def _asgi(scope: Mapping[str, Any]) -> Request:
    query = scope.get("query_string", b"").decode("latin-1")
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    return Request(scope["method"], scope["path"] + (f"?{query}" if query else ""), headers)


def _wsgi(environ: Mapping[str, Any]) -> Request:
    query = environ.get("QUERY_STRING", "")
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "") + (f"?{query}" if query else "")
    headers = [
        (name.removeprefix("HTTP_").replace("_", "-").title(), str(value))
        for name, value in environ.items()
        if name.startswith("HTTP_") or name in ("CONTENT_TYPE", "CONTENT_LENGTH")
    ]
    return Request(environ["REQUEST_METHOD"], path, headers)
