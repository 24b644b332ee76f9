"""One small HTTP port for whoever watches a process: is it alive, can it take work, what has it done."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, NamedTuple

from shared.errors import ConfigError

logger = logging.getLogger(__name__)

#: Seconds that a client may take to ask; one that says nothing holds a thread for no longer.
CLIENT_TIMEOUT = 5.0
#: Seconds between two calls of what is to be called now and then.
TIDY = 5.0
TEXT = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """What is said to one question.

    Attributes:
        status: of HTTP.
        body: text, or bytes of `content_type`.
        content_type: as in the header.
    """

    status: int
    body: str | bytes
    content_type: str = TEXT


class StatusServer:
    """Answers GET and HEAD in threads of its own, so that a busy or waiting main thread does not hold an answer up.

    Args:
        host: the address to listen on.
        port: 0 takes any that is free.
        routes: paths, and what is called for each. It runs beside the main thread, so it may read, and not wait.
        now_and_then: called each TIDY seconds, in the thread that listens.

    Raises:
        ConfigError: the port is taken, or is not there to be had. The message names the variable.
    """

    def __init__(
        self,
        host: str,
        port: int,
        routes: Mapping[str, Callable[[], Answer]],
        now_and_then: Callable[[], None] = lambda: None,
    ) -> None:
        try:
            self._server = _Server((host, port), _handler(routes), now_and_then)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"STATUS_PORT: cannot listen on {host}:{port}: {reason}; choose another") from None
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="status", daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def forget(self) -> None:
        """Let go of the port, in a forked child, where nothing answers."""
        self._server.socket.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], now_and_then: Callable[[], None]
    ) -> None:
        self._now_and_then = now_and_then
        self._due = 0.0
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def service_actions(self) -> None:
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + TIDY
            try:
                self._now_and_then()
            except Exception:
                # Whoever asks for health must still have an answer.
                logger.exception("What the status port does now and then has failed")

    def server_bind(self) -> None:
        # http.server's own asks the DNS for the name of this machine, and waits where there is none.
        TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Somebody went away before the answer.
        pass


def _safely(find: Callable[[], Answer]) -> Answer:
    try:
        return find()
    except Exception:
        logger.exception("The status port has no answer")
        return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "there is no answer: see the log\n")


def _handler(routes: Mapping[str, Callable[[], Answer]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_TIMEOUT
        server_version = "taskhouse"
        sys_version = ""

        def do_GET(self) -> None:
            find = routes.get(self.path.partition("?")[0])
            answer = _safely(find) if find else Answer(HTTPStatus.NOT_FOUND, f"there is {', '.join(routes)}\n")
            body = answer.body.encode() if isinstance(answer.body, str) else answer.body
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            # A probe every few seconds says nothing to whoever reads a log.
            pass

    return Handler
