"""The client against a real HTTP server on this machine that answers by a script."""

import io
import json
import logging
import multiprocessing
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from services.reporter import github as module
from services.reporter.github import GitHub, Malformed, RateLimited, Refused, Unavailable
from shared.errors import ConfigError, Final, Retryable

SINCE = date(2026, 11, 13)
TOKEN = "ghp_not_for_anyones_eyes"
NOW = 1_795_000_000

Answer = tuple[int, dict[str, str], bytes]


def item(**changed: Any) -> dict[str, Any]:
    return {
        "full_name": "rust-lang/rust",
        "html_url": "https://github.com/rust-lang/rust",
        "stargazers_count": 90_000,
        "forks_count": 11_000,
        "language": "Rust",
        "description": "Empowering everyone",
        "topics": ["compiler", "language"],
        "created_at": "2026-11-14T10:00:00Z",
        "owner": {"login": "rust-lang", "node_id": "of no use to a report"},
        **changed,
    }


def found(*items: Any, incomplete: bool = False, **headers: str) -> Answer:
    return answer(200, {"total_count": len(items), "incomplete_results": incomplete, "items": items}, **headers)


def answer(status: int, body: Any, **headers: str) -> Answer:
    """`Retry_After` stands for the header `Retry-After`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, body if isinstance(body, bytes) else json.dumps(body).encode()


class Server(ThreadingHTTPServer):
    """Gives the answers of its script in turn, the last one for ever, and remembers what it was asked."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.script: list[Answer | Callable[[Handler], None]] = [found(item())]
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.connections = 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A script may break the connection off; nobody needs to read that."""

    def get_request(self) -> tuple[socket.socket, Any]:
        self.connections += 1
        return super().get_request()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers.items())))
        script = self.server.script
        planned = script.pop(0) if len(script) > 1 else script[0]
        if callable(planned):
            self.close_connection = True
            return planned(self)
        status, headers, body = planned
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the user's stands between the client and this machine."""
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def search(server: Server, token: str | None = None, page: int = 3) -> Any:
    return GitHub(server.url, token).search(SINCE, per_page=100, page=page)


def failure(server: Server, *script: Any, token: str | None = None) -> Any:
    """The error that an answer becomes."""
    server.script = list(script)
    with pytest.raises((Retryable, Final)) as caught:
        search(server, token)
    return caught.value


# --- What is asked ----------------------------------------------------------------------------------------------------


def test_the_search_asks_for_the_most_starred_since_a_day(server: Server) -> None:
    # When page 3 is searched
    search(server)
    # Then GitHub was asked for it, in its own words
    path, headers = server.asked[0]
    assert urlsplit(path).path == "/search/repositories"
    assert parse_qs(urlsplit(path).query) == {
        "q": ["created:>=2026-11-13"],
        "sort": ["stars"],
        "order": ["desc"],
        "per_page": ["100"],
        "page": ["3"],
    }
    assert headers["Accept"] == "application/vnd.github+json"
    assert headers["X-GitHub-Api-Version"] == "2022-11-28"
    assert "taskhouse" in headers["User-Agent"]
    assert "Authorization" not in headers


def test_a_path_before_the_api_is_kept(server: Server) -> None:
    # Given the address of a GitHub Enterprise Server, with the slash that people leave at its end
    GitHub(f"{server.url}/api/v3/").search(SINCE, per_page=1, page=1)
    assert server.asked[0][0].startswith("/api/v3/search/repositories?")


def test_the_token_is_sent_even_where_a_netrc_knows_the_host(
    server: Server, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    search(server, f" {TOKEN}\n")
    assert server.asked[0][1]["Authorization"] == f"Bearer {TOKEN}"


def test_cookies_are_not_kept(server: Server) -> None:
    server.script = [found(item(), Set_Cookie="logged_in=no; Path=/")]
    github = GitHub(server.url)
    for _ in range(2):
        github.search(SINCE, per_page=1, page=1)
    assert "Cookie" not in server.asked[1][1]


# --- What is answered -------------------------------------------------------------------------------------------------


def test_only_what_a_report_needs_travels(server: Server) -> None:
    page = search(server)
    assert page.model_dump() == {
        "number": 3,
        "incomplete": False,
        "repos": [
            {
                "full_name": "rust-lang/rust",
                "url": "https://github.com/rust-lang/rust",
                "stars": 90_000,
                "forks": 11_000,
                "language": "Rust",
                "description": "Empowering everyone",
                "topics": ["compiler", "language"],
                "created_at": datetime(2026, 11, 14, 10, tzinfo=UTC),
            }
        ],
    }


def test_a_page_survives_the_way_to_another_task(server: Server) -> None:
    page = search(server)
    assert type(page).model_validate_json(page.model_dump_json()) == page


def test_nothing_is_said_of_language_description_and_topics(server: Server) -> None:
    bare = item(language=None, description=None)
    del bare["topics"]
    server.script = [found(bare)]
    (repo,) = search(server).repos
    assert (repo.language, repo.description, repo.topics) == (None, None, [])


def test_an_empty_page_is_a_page(server: Server) -> None:
    server.script = [found()]
    assert search(server).repos == []


def test_an_incomplete_page_says_so(server: Server) -> None:
    server.script = [found(item(), incomplete=True)]
    assert search(server).incomplete


def test_the_quota_left_is_logged_for_debugging(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.script = [found(item(), X_RateLimit_Remaining="7")]
    with caplog.at_level(logging.DEBUG, module.__name__):
        search(server)
    (record,) = (record for record in caplog.records if record.name == module.__name__)
    assert record.levelno == logging.DEBUG and "requests left: 7" in record.getMessage()


# --- Limits of the rate -----------------------------------------------------------------------------------------------

SECONDARY = {"message": "You have exceeded a secondary rate limit. Please wait a few minutes."}
HERE = format_datetime(datetime.fromtimestamp(NOW, UTC), usegmt=True)
IN_90_SECONDS = format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True)


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        pytest.param({"Retry_After": "42"}, 42, id="seconds"),
        pytest.param({"Retry_After": IN_90_SECONDS}, 90, id="date"),
        pytest.param({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": str(NOW + 30)}, 30, id="reset"),
        pytest.param({"Retry_After": "5", "X_RateLimit_Remaining": "0", "X_RateLimit_Reset": str(NOW)}, 5, id="both"),
        pytest.param({"Retry_After": "0"}, 1, id="at-once"),
        pytest.param({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": str(NOW - 500)}, 1, id="past"),
        pytest.param({"Retry_After": "86400"}, 3600, id="a-day"),
        pytest.param({"Retry_After": "9" * 400}, 3600, id="for-ever"),
        pytest.param({"X_RateLimit_Remaining": "0"}, 60, id="no-reset"),
        pytest.param({"Retry_After": "soon"}, 60, id="unreadable"),
        pytest.param({"X_RateLimit_Remaining": "9", "X_RateLimit_Reset": str(NOW + 5)}, 60, id="quota-left"),
        pytest.param({}, 60, id="nothing-said"),
    ],
)
def test_a_limited_rate_says_when_to_ask_again(server: Server, status: int, headers: Any, wait: int) -> None:
    # Given a GitHub whose clock is far from ours, and that limits the rate
    assert abs(time.time() - NOW) > 3600
    # When it is asked
    error = failure(server, answer(status, SECONDARY, Date=HERE, **headers))
    # Then the time to ask again counts from its clock, and is never early
    assert type(error) is RateLimited and error.retry_after
    assert wait < error.retry_after <= wait + 1
    assert "Page 3" in str(error) and str(status) in str(error) and "secondary rate limit" in str(error)


def test_without_a_date_our_own_clock_counts(server: Server) -> None:
    reset = int(time.time()) + 30
    headers = {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": str(reset)}
    error = failure(server, answer(403, SECONDARY, **headers))
    assert time.time() + error.retry_after == pytest.approx(reset, abs=2)


def test_pages_that_were_limited_together_part_ways(server: Server) -> None:
    waits = {failure(server, answer(429, SECONDARY, Retry_After="10")).retry_after for _ in range(5)}
    assert len(waits) > 1


def test_forbidden_without_a_word_of_limits_is_final(server: Server) -> None:
    refusal = {"message": "Resource not accessible by personal access token"}
    error = failure(server, answer(403, refusal, X_RateLimit_Remaining="12", X_RateLimit_Reset=str(NOW)))
    assert type(error) is Refused
    assert str(error) == "Page 3: GitHub answered 403: Resource not accessible by personal access token"


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["Retry-After", "X-RateLimit-Reset", "Date"]), st.text(st.characters(codec="latin-1")))
def test_no_header_upsets_the_reckoning(name: str, value: str) -> None:
    # Given an answer with anything at all in one of the headers that are read
    response = requests.Response()
    response.status_code, response.raw = 429, io.BytesIO(b"{}")
    response.headers.update({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(NOW), name: value})
    # Then it still is a limit with a bounded wait
    error = module._refusal(response, 1)
    assert isinstance(error, RateLimited) and 1 < (error.retry_after or 0) <= 3601


# --- GitHub is away ---------------------------------------------------------------------------------------------------


def reset(handler: Handler) -> None:
    """TCP RST in place of an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()
    handler.rfile.close()
    handler.wfile.close()


def hang_up(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def half_a_body(handler: Handler) -> None:
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"items": [')


def half_a_chunk(handler: Handler) -> None:
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{"items": [')


@pytest.mark.parametrize("trouble", [reset, hang_up, half_a_body, half_a_chunk])
def test_a_broken_connection_is_worth_another_try(server: Server, trouble: Any) -> None:
    error = failure(server, trouble)
    assert type(error) is Unavailable and error.retry_after is None
    assert "Page 3" in str(error)


def test_a_broken_encoding_is_worth_another_try(server: Server) -> None:
    assert type(failure(server, answer(200, b"not gzip", Content_Encoding="gzip"))) is Unavailable


def test_a_refused_connection_is_worth_another_try() -> None:
    with serving() as gone:
        pass
    with pytest.raises(Unavailable, match=r"Page 3.*Connection refused"):
        search(gone)


@pytest.mark.parametrize("silent_after", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_a_silent_github_is_left(server: Server, monkeypatch: pytest.MonkeyPatch, silent_after: bytes) -> None:
    # Given a GitHub that falls silent, and little patience
    left = threading.Event()

    def fall_silent(handler: Handler) -> None:
        handler.wfile.write(silent_after)
        left.wait(5)

    monkeypatch.setattr(module, "TIMEOUT", (5, 0.05))
    # When it is asked, then it is worth another try
    asked_at = time.monotonic()
    error = failure(server, fall_silent)
    patience = time.monotonic() - asked_at
    left.set()
    assert type(error) is Unavailable and patience < 4


def test_patience_is_as_documented() -> None:
    assert module.TIMEOUT == (5, 30)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_failing_github_is_worth_another_try(server: Server, status: int) -> None:
    error = failure(server, answer(status, b"<!DOCTYPE html><title>Unicorn!</title>" + b"<p>" * 9999))
    assert type(error) is Unavailable and error.retry_after is None
    assert str(error).startswith(f"Page 3: GitHub answered {status}: ") and "<" not in str(error)


def test_a_failing_github_may_say_when_it_is_back(server: Server) -> None:
    assert failure(server, answer(503, {"message": "Maintenance"}, Retry_After="120")).retry_after == 120


# --- Nonsense ---------------------------------------------------------------------------------------------------------


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in item().items() if key != name}


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"<html>a proxy's page</html>", "JSON"),
        (b'{"incomplete_results": false, "items": [{"full_na', "JSON"),
        (b"", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"null", "object"),
        (b"[1]", "object"),
        (b'{"incomplete_results": false}', "items"),
        (b'{"incomplete_results": false, "items": {"0": null}}', "items"),
        (b'{"incomplete_results": false, "items": [null]}', "items.0"),
        (b'{"incomplete_results": null, "items": []}', "incomplete_results"),
        (found(item(), without("full_name"))[2], "items.1.full_name"),
        (found(item(full_name=None))[2], "items.0.full_name"),
        (found(item(full_name=5))[2], "items.0.full_name"),
        (found(item(html_url=None))[2], "items.0.html_url"),
        (found(item(stargazers_count="many"))[2], "items.0.stargazers_count"),
        (found(item(stargazers_count="90000"))[2], "items.0.stargazers_count"),
        (found(item(stargazers_count=-1))[2], "items.0.stargazers_count"),
        (found(item(created_at="yesterday"))[2], "items.0.created_at"),
        (found(item(topics=None))[2], "items.0.topics"),
    ],
)
def test_nonsense_is_worth_another_try_and_says_what_is_wrong(server: Server, body: bytes, complaint: str) -> None:
    error = failure(server, answer(200, body))
    assert type(error) is Malformed and isinstance(error, Unavailable)
    assert "Page 3" in str(error) and "200" in str(error) and complaint in str(error)
    assert len(str(error)) <= 300 and "<html" not in str(error)


# --- Refusals ---------------------------------------------------------------------------------------------------------

VALIDATION_FAILED = {
    "message": "Validation Failed",
    "errors": [
        {"message": "The search cannot be\ncarried out.", "resource": "Search", "field": "q", "code": "invalid"},
        {"resource": "Search", "field": "sort", "code": "missing"},
        "and a plain word",
    ],
}


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, {"message": "Bad credentials"}, "check GITHUB_TOKEN: Bad credentials"),
        (404, {"message": "Not Found"}, "Not Found"),
        (422, {"message": "Only the first 1000 search results are available"}, "Only the first 1000 search results"),
        (422, VALIDATION_FAILED, "Validation Failed; Search.q: The search cannot be carried out.; Search.sort: mis"),
        (422, VALIDATION_FAILED, "; and a plain word"),
        (400, {"message": "Bad Request", "errors": "The version is not supported"}, "Bad Request; The version is not"),
        (418, b"<html>teapot</html>", "I'm a Teapot"),
        (404, {"message": {"not": "text"}}, "Not Found"),
        (404, [], "Not Found"),
        (404, b"[" * 100_000, "Not Found"),
        (304, b"", "Not Modified"),
    ],
)
def test_a_refusal_is_final_and_carries_githubs_words(server: Server, status: int, body: Any, message: str) -> None:
    error = failure(server, answer(status, body))
    assert type(error) is Refused
    assert str(error).startswith(f"Page 3: GitHub answered {status}: ") and message in str(error)
    assert "\n" not in str(error)


def test_a_long_refusal_is_cut(server: Server) -> None:
    message = str(failure(server, answer(422, {"message": "no " * 10_000})))
    assert len(message) == 300 and message.endswith("…")


# --- Redirects and the token ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_on_the_same_host_is_followed_with_the_token(server: Server, status: int) -> None:
    server.script = [answer(status, b"", Location="/repositories/moved?page=3"), found(item())]
    assert search(server, TOKEN).number == 3
    path, headers = server.asked[1]
    assert path == "/repositories/moved?page=3" and headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_redirect_to_another_host_loses_the_token(server: Server, host: str) -> None:
    # Given a GitHub that sends its clients elsewhere
    with serving() as elsewhere:
        server.script = [answer(302, b"", Location=f"http://{host}:{elsewhere.server_port}/")]
        # When it is asked with a token
        search(server, TOKEN)
        # Then that other host has seen the request, but no token
        assert "Authorization" in server.asked[0][1]
        ((_, headers),) = elsewhere.asked
        assert TOKEN not in str(headers)


@pytest.mark.parametrize("target", ["/again", "ftp://elsewhere/", "http://[broken", "http://"])
def test_redirects_that_lead_nowhere_end(server: Server, target: str) -> None:
    error = failure(server, answer(301, b"", Location=target), token=TOKEN)
    assert type(error) is Refused and "GITHUB_API_URL" in str(error)
    assert len(server.asked) <= module.MAX_REDIRECTS + 1


def test_the_token_shows_nowhere(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    # Given the most talkative logs
    github = GitHub(server.url, TOKEN)
    texts = [repr(github), repr(github._auth), repr(vars(github))]
    with caplog.at_level(logging.DEBUG):
        # When things go well, and when they do not
        github.search(SINCE, per_page=1, page=1)
        for trouble in (reset, half_a_body, answer(401, {"message": "Bad credentials"}), answer(200, b"[")):
            texts.append(repr(failure(server, trouble, token=TOKEN)))
    # Then nobody reads the token
    texts += [repr(vars(session)) for session in github._sessions.values()]
    assert all(TOKEN not in text for text in [*texts, caplog.text])


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "nul\0", "ümlaut"])
def test_an_impossible_token_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(ConfigError, match="GITHUB_TOKEN") as caught:
        GitHub(token=token)
    assert token not in str(caught.value)


@pytest.mark.parametrize("url", ["", "api.github.com", "ftp://api.github.com", "https://", "https://user:pw@host"])
def test_an_impossible_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="GITHUB_API_URL") as caught:
        GitHub(url)
    assert "pw" not in str(caught.value)


# --- One pool a process -----------------------------------------------------------------------------------------------


def test_threads_share_the_connections_of_one_session(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    # Given twelve threads that all wait for each other at the server, twice
    together = threading.Barrier(12)

    def meet(handler: Handler) -> None:
        together.wait(5)
        handler.close_connection = False
        body = found(item())[2]
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    server.script = [meet]
    github = GitHub(server.url)
    # When they search at once
    with ThreadPoolExecutor(12) as threads:
        for _ in range(2):
            pages = list(threads.map(lambda page: github.search(SINCE, per_page=1, page=page), range(1, 13)))
            # Then each has its own page
            assert [page.number for page in pages] == list(range(1, 13))
    # And the second round went over the connections of the first, none of which was thrown away
    assert len(github._sessions) == 1 and server.connections == 12
    assert "pool is full" not in caplog.text


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_opens_its_own_connection(server: Server) -> None:
    # Given a client that has a connection
    github = GitHub(server.url)
    github.search(SINCE, per_page=1, page=1)
    # When a forked process uses it, and then the first one again
    child = multiprocessing.get_context("fork").Process(
        target=lambda: os._exit(github.search(SINCE, per_page=1, page=7).number)
    )
    child.start()
    child.join(5)
    github.search(SINCE, per_page=1, page=1)
    # Then the fork has opened one more, and the first has kept its own
    assert child.exitcode == 7 and server.connections == 2


# --- Errors that travel -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [Unavailable("away"), Unavailable("away", 7.5), Malformed("odd"), RateLimited("slow", 60.5), Refused("no")],
    ids=repr,
)
def test_an_error_survives_the_result_store(error: Any) -> None:
    # When it is rebuilt from its arguments, as from JSON, or pickled
    for copy in (type(error)(*json.loads(json.dumps(error.args))), pickle.loads(pickle.dumps(error))):
        # Then it says and means the same
        assert type(copy) is type(error) and str(copy) == str(error)
        assert getattr(copy, "retry_after", None) == getattr(error, "retry_after", None)
