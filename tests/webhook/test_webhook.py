"""Outcomes by HTTP, posted to a real server: what arrives, what is tried again, and where nothing is ever sent."""

import hashlib
import hmac
import json
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from celery import _state, group

from services.webhook.poster import Forbidden, Poster, Refused, Unavailable, is_public
from shared.app import create_app
from shared.callbacks import tell
from shared.config import Settings
from shared.embedded.transport import Transport
from shared.embedded.worker import running
from shared.errors import InvalidArguments
from shared.signatures import calculator, webhook
from shared.topology import service

SECRET = b"made-up-secret-of-the-tests"
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
PATIENCE = 30


@dataclass
class Server:
    """An HTTP server that answers with `statuses`, one after the other, and then 204."""

    port: int
    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def url(self, path: str = "/hook", host: str = "localhost", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def outcomes(self, count: int) -> list[dict[str, object]]:
        """The first `count` that arrive; each must be signed."""
        deadline = time.monotonic() + PATIENCE
        while len(self.requests) < count:
            assert time.monotonic() < deadline, f"{len(self.requests)} of {count} have come"
            time.sleep(0.02)
        for _, headers, body in self.requests:
            moment, _, digest = headers["X-Taskhouse-Signature"].removeprefix("t=").partition(",v1=")
            expected = hmac.new(SECRET, f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
            assert hmac.compare_digest(digest, expected) and abs(time.time() - int(moment)) < 60
        return [json.loads(body) for _, _, body in self.requests]


def serve(context: ssl.SSLContext | None = None) -> tuple[ThreadingHTTPServer, Server]:
    """A server on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.requests.append((self.path, dict(self.headers), body))
            status = told.statuses.pop(0) if told.statuses else 204
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        http.socket = context.wrap_socket(http.socket, server_side=True)
    told = Server(http.server_port)
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    return http, told


@pytest.fixture
def server() -> Iterator[Server]:
    http, told = serve()
    yield told
    http.shutdown()
    http.server_close()


@pytest.fixture
def poster() -> Poster:
    """May reach this machine."""
    return Poster(["localhost", "127.0.0.1"], SECRET, LOOPBACK)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A calculator and a webhook, embedded, that may reach this machine."""
    environ = {name: value for name, value in os.environ.items() if name not in ("BROKER_URL", "REDIS_URL")}
    environ |= {
        "LOCAL_DIR": str(tmp_path_factory.mktemp("webhook") / "local"),
        "CALLBACK_HOSTS": "localhost",
        "CALLBACK_SECRET": SECRET.decode(),
        "CALLBACK_NETWORKS": "127.0.0.0/8,::1/128",
    }
    kept, default = _state._tls.current_app, _state.default_app
    Transport.global_state.clear()
    settings = Settings.load(environ)
    app = create_app(settings=settings)
    with running(service("calculator"), settings, environ), running(service("webhook"), settings, environ):
        yield
    app.close()
    _state._tls.current_app = kept
    _state.set_default_app(default)


# --- With the workers -------------------------------------------------------------------------------------------------


def test_a_result_is_told(house: None, server: Server) -> None:
    call = tell(calculator.multiply(6, 7), server.url("/hook?of=ann"))
    call.delay()
    (outcome,) = server.outcomes(1)
    assert outcome == {"id": call.freeze().id, "task": "calculator.multiply", "status": "SUCCESS", "result": 42}
    path, headers, _ = server.requests[0]
    assert path == "/hook?of=ann" and headers["Idempotency-Key"] == outcome["id"]
    assert headers["Host"] == f"localhost:{server.port}"


def test_a_failure_is_told(house: None, server: Server) -> None:
    tell(calculator.add_days(3_000_000), server.url()).delay()
    (outcome,) = server.outcomes(1)
    assert outcome["status"] == "FAILURE" and "no day lies" in json.dumps(outcome["result"])


def test_a_chain_and_a_task_that_is_replaced_tell_their_last_result(house: None, server: Server) -> None:
    tell(calculator.add(1, 2) | calculator.multiply.s(10), server.url()).delay()
    assert server.outcomes(1)[0]["result"] == 30
    tell(calculator.count_down(3), server.url()).delay()
    assert server.outcomes(2)[1]["result"] == 6


def test_a_server_that_is_busy_is_asked_again_with_the_same_key(house: None, server: Server) -> None:
    server.statuses[:] = [503, 429]
    tell(calculator.add(1, 1), server.url()).delay()
    server.outcomes(3)
    assert len({headers["Idempotency-Key"] for _, headers, _ in server.requests}) == 1


def test_a_task_that_keeps_no_result_tells_it_all_the_same(house: None, server: Server) -> None:
    tell(calculator.note("hello"), server.url()).delay()
    assert server.outcomes(1)[0]["status"] == "SUCCESS"


def test_a_group_has_no_outcome_of_its_own() -> None:
    with pytest.raises(InvalidArguments, match="make it a chord"):
        tell(group(calculator.add(1, 1), calculator.add(2, 2)), "https://example.org/")


# --- Where nothing is sent --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["ftp://example.org/", "https://", "https://user:secret@example.org/", "example.org", "https://a b/", "https://ä/"],
)
def test_an_address_that_is_none_is_refused_where_it_is_given(url: str) -> None:
    with pytest.raises(InvalidArguments, match="url"):
        webhook.deliver("an-id", url)


def test_a_host_that_is_not_listed_gets_nothing(server: Server) -> None:
    with pytest.raises(Forbidden, match="CALLBACK_HOSTS"):
        Poster(["example.org", "*.localhost"], SECRET, LOOPBACK).post(server.url(), "key", {})
    assert server.requests == []


def test_without_a_secret_nothing_is_sent(server: Server) -> None:
    with pytest.raises(Forbidden, match="CALLBACK_SECRET"):
        Poster(["localhost"], b"", LOOPBACK).post(server.url(), "key", {})
    assert server.requests == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_private_address_gets_nothing(server: Server, scheme: str) -> None:
    # Given a listed name that leads into the house
    with pytest.raises(Forbidden, match="private"):
        Poster(["localhost"], SECRET).post(server.url(scheme=scheme), "key", {})
    assert server.requests == []


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "::1", "fe80::1", "fd00::1", "ff02::1", "::"),
        *("::ffff:10.0.0.1", "2002:7f00:1::"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:93.184.215.14"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ip_address(address))


def test_a_redirect_is_not_followed(server: Server, poster: Poster) -> None:
    server.statuses[:] = [302]
    with pytest.raises(Refused, match="302"):
        poster.post(server.url(), "key", {})
    assert [path for path, _, _ in server.requests] == ["/hook"]


@pytest.mark.parametrize(("status", "error"), [(400, Refused), (404, Refused), (500, Unavailable), (429, Unavailable)])
def test_each_refusal_says_whether_another_attempt_may_help(
    server: Server, poster: Poster, status: int, error: type[Exception]
) -> None:
    server.statuses[:] = [status]
    with pytest.raises(error, match=str(status)):
        poster.post(server.url(), "key", {})


def test_a_server_that_is_away_is_asked_again(poster: Poster, server: Server) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        poster.post(f"http://localhost:{_closed_port()}/", "key", {})


def _closed_port() -> int:
    http, told = serve()
    http.shutdown()
    http.server_close()
    return told.port


@pytest.fixture
def certificate(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a certificate for a name, with its key in the same file."""

    def make(name: str) -> Path:
        path = tmp_path / f"{name}.pem"
        options = ["-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={name}"]
        names = ["-addext", f"subjectAltName=DNS:{name}"]
        command = ["openssl", "req", "-x509", *options, *names, "-keyout", "-", "-out", "-"]
        path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
        return path

    return make


@pytest.mark.parametrize(("name", "fits"), [("localhost", True), ("elsewhere.test", False)])
def test_https_checks_the_certificate_against_the_name(
    certificate: Callable[[str], Path], name: str, fits: bool
) -> None:
    # Given a server with a certificate that this poster trusts
    pem = certificate(name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    http, told = serve(context)
    poster = Poster(["localhost"], SECRET, LOOPBACK, ssl.create_default_context(cafile=str(pem)))
    # When it is posted to by name, then its certificate must be for that name, though the address is what is dialled
    try:
        if fits:
            poster.post(told.url(scheme="https"), "key", {"id": "key"})
            assert told.outcomes(1) == [{"id": "key"}]
        else:
            with pytest.raises(Refused, match="certificate"):
                poster.post(told.url(scheme="https"), "key", {})
            assert told.requests == []
    finally:
        http.shutdown()
        http.server_close()
