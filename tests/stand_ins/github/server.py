"""The server: HTTP/1.1 with a thread for each connection, and what only a real socket can do."""

import sys
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Event, Thread
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.stand_ins.github.answer import Answer, Delivery
from tests.stand_ins.github.api import SEARCH, Api, Request
from tests.stand_ins.github.connections import Connections, reset_on_close, resets_on_close
from tests.stand_ins.github.control import HEALTH, PREFIX, Control, Settings
from tests.stand_ins.github.dataset import Repository, default_repositories, distinct
from tests.stand_ins.github.faults import Faults
from tests.stand_ins.github.limits import RateLimits
from tests.stand_ins.github.record import RequestRecord
from tests.stand_ins.github.search import Catalogue, Page

LARGEST_BODY = 64 * 1024  # bytes of a request; faults and settings need a few hundred


class GitHubStandIn:
    """GitHub's repository search on a port of this machine, as a context manager or between `start` and `close`.

    `repositories` are those of `default_repositories` unless given. `today` fixes the day that ages count from; without
    it, each request counts from the current day (UTC). `latency` is in seconds. `clock` gives epoch seconds.
    """

    def __init__(
        self,
        repositories: Iterable[Repository] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        today: date | None = None,
        latency: float = 0.0,
        rate_limits: bool = True,
        reject_tokens: Collection[str] = (),
        clock: Callable[[], float] = time.time,
        verbose: bool = False,
    ) -> None:
        known = default_repositories() if repositories is None else distinct(repositories)
        limits = RateLimits(clock)
        self.control = Control(Settings(latency, rate_limits), limits)
        self.clock = clock
        self.api = Api(Catalogue(known), lambda: today or self._current_day(), limits, reject_tokens)
        self.stopping = Event()
        self._server = _Server((host, port), self, verbose)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def faults(self) -> Faults:
        return self.control.faults

    @property
    def requests(self) -> list[RequestRecord]:
        """The requests so far, in the order in which they came."""
        return self.control.record.all()

    def _current_day(self) -> date:
        return datetime.fromtimestamp(self.clock(), UTC).date()

    def start(self) -> "GitHubStandIn":
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop, whoever is still connected."""
        self.stopping.set()
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
        self._server.connections.shut()

    def __enter__(self) -> "GitHubStandIn":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # the standard library's 5 refuses a burst of clients

    def __init__(self, address: tuple[str, int], stand_in: GitHubStandIn, verbose: bool) -> None:
        self.stand_in = stand_in
        self.verbose = verbose
        self.connections = Connections()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without asking for the host's full name: nobody needs it, and without a resolver it takes seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        if not resets_on_close(request):
            super().shutdown_request(request)  # says FIN, which a reset must not
        else:
            self.close_request(request)
        self.connections.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that leaves is no error of ours
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "GitHubStandIn"
    disable_nagle_algorithm = True  # or a body waits for the receipt of its headers
    server: _Server

    def _handle(self) -> None:
        body = self._read_body()
        if body is None:
            refusal = {"message": f"A body needs a Content-Length up to {LARGEST_BODY}"}
            return self._send(Answer(413, refusal, {"Connection": "close"}))
        path = urlsplit(self.path).path
        if path == HEALTH or path.startswith(PREFIX):
            return self._send(self.server.stand_in.control.answer(self.command, path, body))
        self._answer_as_github(path)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _handle

    def _read_body(self) -> bytes | None:
        """The body, which must be read even where nobody wants it: the next request follows on the connection."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > LARGEST_BODY:
            return None
        return self.rfile.read(int(length))

    def _answer_as_github(self, path: str) -> None:
        stand_in = self.server.stand_in
        record, settings = stand_in.control.record, stand_in.control.settings
        query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in self.headers.items()}
        number = record.begin(self.command, path, query, headers)
        base_url = f"http://{headers['host']}" if "host" in headers else stand_in.url
        request = Request(self.command, path, query, headers, self.client_address[0], base_url)
        answer = stand_in.api.answer(request, limited=settings.rate_limits)
        fault = stand_in.faults.take(Page.of(query).number, answer.status) if path == SEARCH else None
        if fault is not None:
            record.note(number, fault=fault.name)
            answer = fault.apply(answer, stand_in.clock())
        if stand_in.stopping.wait(settings.latency + answer.delay):
            self.close_connection = True
            return record.end(number, None)
        self._deliver(answer, number)

    def _deliver(self, answer: Answer, number: int) -> None:
        record = self.server.stand_in.control.record
        match answer.delivery:
            case Delivery.WHOLE:
                record.end(number, answer.status)  # before the client has it, so that it never finds its own unfinished
                self._send(answer)
            case Delivery.NEVER:
                self._wait_for_the_client_to_leave()
                record.end(number, None)
            case Delivery.RESET:
                record.end(number, None)
                self._reset()
            case Delivery.RESET_MID_BODY:
                record.end(number, answer.status)
                self._send(answer, half=True)
                self._reset()

    def _send(self, answer: Answer, half: bool = False) -> None:
        payload = answer.payload()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(payload)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload[: len(payload) // 2] if half else payload)

    def _wait_for_the_client_to_leave(self) -> None:
        """Until the connection ends on either side: a stand-in that closes shuts it."""
        self.close_connection = True
        with suppress(OSError):
            while self.connection.recv(1024):
                pass

    def _reset(self) -> None:
        self.close_connection = True
        reset_on_close(self.connection)

    def log_message(self, format: str, *args: Any) -> None:
        if self.server.verbose:
            super().log_message(format, *args)
