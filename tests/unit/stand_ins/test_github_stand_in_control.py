"""The control routes, for a stand-in in a container."""

import http.client
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.stand_ins.github import GitHubStandIn

Search = Callable[..., requests.Response]


def call(github: GitHubStandIn, method: str, path: str, **options: Any) -> requests.Response:
    return requests.request(method, f"{github.url}{path}", timeout=5, **options)


def test_health(thirty_five: GitHubStandIn) -> None:
    assert call(thirty_five, "GET", "/healthz").status_code == 200


def test_faults_come_and_go(thirty_five: GitHubStandIn, search: Search) -> None:
    # Given a fault that was asked for over HTTP
    wanted = {"name": "too_many_429", "times": 2, "page": 3, "retry_after": 1}
    added = call(thirty_five, "POST", "/_stand_in/faults", json=wanted)
    assert (added.status_code, added.json()) == (201, {**wanted, "probability": 1.0})
    # Then it waits, and strikes
    assert call(thirty_five, "GET", "/_stand_in/faults").json() == [added.json()]
    assert search(thirty_five, q="repo", page=3).status_code == 429
    assert call(thirty_five, "GET", "/_stand_in/faults").json()[0]["times"] == 1
    # When all are dropped, Then none strikes
    assert call(thirty_five, "DELETE", "/_stand_in/faults").status_code == 200
    assert search(thirty_five, q="repo", page=3).status_code == 200


def test_null_is_for_ever(thirty_five: GitHubStandIn) -> None:
    call(thirty_five, "POST", "/_stand_in/faults", json={"name": "hang", "times": None})
    assert thirty_five.faults.waiting()[0]["times"] is None


@pytest.mark.parametrize(
    ("method", "path", "options", "argument"),
    [
        ("POST", "faults", {"json": {}}, "name"),
        ("POST", "faults", {"json": {"name": "nonesuch"}}, "name"),
        ("POST", "faults", {"json": {"name": "slow", "times": -1}}, "times"),
        ("POST", "faults", {"json": {"name": "slow", "self": 1}}, "self"),
        ("POST", "faults", {"data": "{"}, "body"),
        ("POST", "faults", {"data": b"\xff"}, "body"),
        ("POST", "faults", {"json": [1]}, "body"),
        ("PUT", "settings", {"json": {"latency": -1}}, "latency"),
        ("PUT", "settings", {"json": {"latency": True}}, "latency"),
        ("PUT", "settings", {"data": '{"latency": NaN}'}, "latency"),
        ("PUT", "settings", {"json": {"rate_limits": "yes"}}, "rate_limits"),
        ("PUT", "settings", {"json": {"speed": 1}}, "speed"),
    ],
)
def test_a_mistake_is_named(
    thirty_five: GitHubStandIn, method: str, path: str, options: dict[str, Any], argument: str
) -> None:
    answer = call(thirty_five, method, f"/_stand_in/{path}", **options)
    assert (answer.status_code, answer.json()["argument"]) == (400, argument)
    assert argument in answer.json()["message"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/_stand_in/nonesuch"), ("PATCH", "/_stand_in/faults")])
def test_another_route_is_told_the_known_ones(thirty_five: GitHubStandIn, method: str, path: str) -> None:
    answer = call(thirty_five, method, path)
    assert answer.status_code == 404
    assert "POST /_stand_in/faults" in answer.json()["message"]


def test_the_record_can_be_read_and_forgotten(thirty_five: GitHubStandIn, search: Search) -> None:
    search(thirty_five, {"Authorization": "Bearer secret"}, q="repo")
    answer = call(thirty_five, "GET", "/_stand_in/requests")
    [record] = answer.json()
    assert (record["path"], record["query"], record["status"]) == ("/search/repositories", {"q": "repo"}, 200)
    assert record["bearer"] is True
    assert "secret" not in answer.text
    call(thirty_five, "DELETE", "/_stand_in/requests")
    assert call(thirty_five, "GET", "/_stand_in/requests").json() == []


def test_settings_change_while_it_runs(thirty_five: GitHubStandIn, search: Search) -> None:
    # Given a stand-in without latency or limits
    # When both are set
    changed = call(thirty_five, "PUT", "/_stand_in/settings", json={"latency": 0.1, "rate_limits": True})
    assert changed.json() == call(thirty_five, "GET", "/_stand_in/settings").json()
    assert changed.json() == {"latency": 0.1, "rate_limits": True}
    # Then both are felt
    assert search(thirty_five, q="repo").headers["X-RateLimit-Used"] == "1"
    [record] = thirty_five.requests
    assert record.ended is not None
    assert record.ended - record.started >= 0.1


@pytest.mark.parametrize(("header", "value"), [("Transfer-Encoding", "chunked"), ("Content-Length", "99999999")])
def test_a_body_without_bounds_is_refused(thirty_five: GitHubStandIn, header: str, value: str) -> None:
    # Given the headers of a request whose body may be of any size
    connection = http.client.HTTPConnection(urlsplit(thirty_five.url).netloc, timeout=5)
    connection.putrequest("POST", "/_stand_in/faults")
    connection.putheader(header, value)
    # When they have come, Then the body is not waited for
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Connection")) == (413, "close")
    connection.close()
