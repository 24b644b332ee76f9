"""Headers, refusals, and the record of what came."""

import http.client
import json
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
import requests

from tests.stand_ins.github import GitHubStandIn

Search = Callable[..., requests.Response]


def raw(github: GitHubStandIn, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    """One request with these headers and no others."""
    connection = http.client.HTTPConnection(urlsplit(github.url).netloc, timeout=5)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_results_come_with_githubs_headers(thirty_five: GitHubStandIn, search: Search) -> None:
    first, second = search(thirty_five, q="repo"), search(thirty_five, q="repo")
    assert first.headers["Content-Type"] == "application/json; charset=utf-8"
    assert first.headers["X-GitHub-Media-Type"] == "github.v3; format=json"
    assert first.headers["X-RateLimit-Resource"] == "search"
    assert first.headers["X-GitHub-Request-Id"] != second.headers["X-GitHub-Request-Id"]
    assert first.json()["incomplete_results"] is False
    assert first.json()["items"][0]["description"] == "a ☕, and more"


def test_a_head_has_no_body(thirty_five: GitHubStandIn) -> None:
    status, headers, body = raw(thirty_five, "HEAD", "/search/repositories?q=repo", {"User-Agent": "x"})
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 1_000


@pytest.mark.parametrize("headers", [{}, {"User-Agent": ""}])
def test_whoever_does_not_say_who_they_are_is_refused(thirty_five: GitHubStandIn, headers: dict[str, str]) -> None:
    status, answered, body = raw(thirty_five, "GET", "/search/repositories?q=repo", headers)
    assert (status, answered["Content-Type"]) == (403, "text/html")
    assert b"make sure your request has a User-Agent header" in body
    assert "X-RateLimit-Limit" not in answered


@pytest.mark.parametrize("credential", ["Bearer bad-token", "token revoked", "Bearer", "Basic Zm9vOmJhcg=="])
def test_a_bad_credential_is_refused(serve: Callable[..., GitHubStandIn], search: Search, credential: str) -> None:
    # Given a stand-in that rejects a token beside `bad-token`
    github = serve([], reject_tokens={"revoked"})
    # When a bad credential comes, with a version that is wrong too
    answer = search(github, {"Authorization": credential, "X-GitHub-Api-Version": "1999-01-01"}, q="repo")
    # Then the credential is what GitHub complains about, without a word on limits
    assert answer.status_code == 401
    assert answer.json()["message"] == "Bad credentials"
    assert answer.headers.keys().isdisjoint({"X-RateLimit-Limit", "X-GitHub-Api-Version-Selected"})


@pytest.mark.parametrize("version", ["2022-11-28", "2026-03-10"])
def test_a_supported_version_is_confirmed(thirty_five: GitHubStandIn, search: Search, version: str) -> None:
    answer = search(thirty_five, {"X-GitHub-Api-Version": version}, q="repo")
    assert (answer.status_code, answer.headers["X-GitHub-Api-Version-Selected"]) == (200, version)


def test_another_version_is_refused_with_those_that_are_supported(thirty_five: GitHubStandIn, search: Search) -> None:
    answer = search(thirty_five, {"X-GitHub-Api-Version": "v3"}, q="repo")
    assert (answer.status_code, answer.json()["message"]) == (400, "Bad Request")
    assert '"v3", is not a supported version' in answer.json()["errors"]
    assert '"2022-11-28"' in answer.json()["errors"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/search/code?q=x"), ("GET", "/search/repositories/"), ("POST", "/search/repositories?q=x")],
)
def test_anything_else_is_not_found(thirty_five: GitHubStandIn, method: str, path: str) -> None:
    status, _, body = raw(thirty_five, method, path, {"User-Agent": "x"})
    assert (status, json.loads(body)["message"], json.loads(body)["status"]) == (404, "Not Found", "404")


def test_requests_are_recorded_without_their_secrets(thirty_five: GitHubStandIn, search: Search) -> None:
    # Given a search with a token
    before = time.time()
    search(thirty_five, {"Authorization": "Bearer very-secret", "User-Agent": "reporter"}, q="repo", page=2)
    # When I look at the record
    [record] = thirty_five.requests
    # Then it tells all but the token
    assert (record.method, record.path, record.query) == ("GET", "/search/repositories", {"q": "repo", "page": "2"})
    assert (record.status, record.fault, record.bearer) == (200, None, True)
    assert record.headers["user-agent"] == "reporter"
    assert record.ended is not None
    assert before <= record.started <= record.ended <= time.time()
    assert "very-secret" not in repr(record)


def test_refusals_are_recorded_too(thirty_five: GitHubStandIn, search: Search) -> None:
    search(thirty_five)
    search(thirty_five, {"Authorization": "Bearer bad-token"}, q="repo")
    assert [(each.status, each.bearer) for each in thirty_five.requests] == [(422, False), (401, True)]
