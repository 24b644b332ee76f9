"""The server as a process and as a party to many connections."""

import http.client
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.stand_ins.github import GitHubStandIn, repository
from tests.stand_ins.github.dataset import REPOSITORY_ROOT

Serve = Callable[..., GitHubStandIn]


def get(url: str) -> int:
    return requests.get(f"{url}/search/repositories?q=repo", timeout=5).status_code


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [sys.executable, "-m", "tests.stand_ins.github", "--port", "0", *arguments],
        cwd=REPOSITORY_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def url_of(started: subprocess.Popen[str]) -> str:
    assert started.stdout is not None
    return started.stdout.readline().removeprefix("listening on ").strip()


def test_fifty_are_served_at_once(serve: Serve) -> None:
    # Given an answer that takes 300 ms
    github = serve([repository("a/repo")], latency=0.3)
    # When fifty clients ask at the same time
    before = time.monotonic()
    with ThreadPoolExecutor(50) as clients:
        answers = list(clients.map(get, [github.url] * 50))
    # Then they wait together, not one after another
    assert answers == [200] * 50
    assert time.monotonic() - before < 1.5
    # And at some moment at least five were under way
    starts, ends = [[getattr(each, name) for each in github.requests] for name in ("started", "ended")]
    assert sorted(starts)[4] < min(ends)


def test_a_connection_serves_many_requests(thirty_five: GitHubStandIn) -> None:
    # Given one connection
    connection = http.client.HTTPConnection(urlsplit(thirty_five.url).netloc, timeout=5)
    connection.connect()
    opened = connection.sock
    # When requests of every sort go over it, one with a body that nobody reads
    for method, path, body in [
        ("GET", "/search/repositories?q=repo", None),
        ("POST", "/search/repositories", b"unread"),
        ("HEAD", "/search/repositories?q=repo", None),
        ("DELETE", "/_stand_in/faults", None),
        ("GET", "/healthz", None),
    ]:
        connection.request(method, path, body, {"User-Agent": "x"})
        connection.getresponse().read()
    # Then it is still the same
    assert connection.sock is opened
    connection.close()


def test_an_idle_connection_does_not_hold_the_stand_in_up(serve: Serve) -> None:
    # Given a client that keeps its connection open
    github = serve([])
    connection = http.client.HTTPConnection(urlsplit(github.url).netloc, timeout=5)
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    # When the stand-in closes, Then it does so at once, and the port is closed
    before = time.monotonic()
    github.close()
    assert time.monotonic() - before < 1
    with pytest.raises(requests.ConnectionError):
        get(github.url)
    connection.close()


def test_a_latency_does_not_hold_the_stand_in_up(serve: Serve) -> None:
    github = serve([], latency=30)
    with ThreadPoolExecutor(1) as client:
        asked = client.submit(get, github.url)
        while not github.requests:
            assert not asked.done()
        before = time.monotonic()
        github.close()
        assert time.monotonic() - before < 1
        assert isinstance(asked.exception(), requests.ConnectionError)


def test_nothing_is_logged(thirty_five: GitHubStandIn, capfd: pytest.CaptureFixture[str]) -> None:
    # Given a request that succeeds and one whose connection breaks
    thirty_five.faults.add("reset", page=9)
    get(thirty_five.url)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{thirty_five.url}/search/repositories?q=repo&page=9", timeout=5)
    thirty_five.close()
    assert capfd.readouterr() == ("", "")


def test_a_process_says_where_it_listens_and_ends_on_sigterm(tmp_path: Path) -> None:
    # Given a stand-in as a process
    port_file = tmp_path / "port"
    with process("--seed", "1", "--today", "2026-03-15", "--no-rate-limits", "--port-file", str(port_file)) as started:
        url = url_of(started)
        # Then it serves where it says
        answer = requests.get(f"{url}/search/repositories?q=created:>=2026-03-14", timeout=5)
        assert answer.json()["total_count"] >= 600
        assert url == f"http://127.0.0.1:{port_file.read_text()}"
        # When it is told to end, Then it does, cleanly and fast
        before = time.monotonic()
        started.send_signal(signal.SIGTERM)
        out, err = started.communicate(timeout=5)
        assert (started.returncode, out, err) == (0, "", "")
        assert time.monotonic() - before < 1


def test_a_process_serves_the_csv_that_it_is_given(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text(
        "repo_name,stars,forks,language,username,issues,last_commit,description\n"
        'repo,5,1,Python,someone,0,2026-01-01T00:00:00Z,"a, ""b"" 🚀"\n',
        encoding="utf-8",
    )
    with process("--data", str(data), "--verbose") as started:
        found = requests.get(f"{url_of(started)}/search/repositories?q=repo", timeout=5).json()["items"]
        assert [(item["full_name"], item["description"]) for item in found] == [("someone/repo", 'a, "b" 🚀')]
        started.terminate()
        assert '"GET /search/repositories?q=repo HTTP/1.1" 200' in started.communicate(timeout=5)[1]


def test_a_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    with process("--data", str(tmp_path / "none.csv")) as started:
        out, err = started.communicate(timeout=5)
        assert (started.returncode, out) == (2, "")
        assert err.startswith("cannot start: ")
        assert "none.csv" in err
