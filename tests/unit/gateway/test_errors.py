"""What breaks: told to the client in few words, to the log in many, and nowhere a secret."""

import logging

import pytest

from services.gateway.error_report import RequestInfo
from tests.serving import Site, problem

SECRETS = {"Authorization": "Bearer hunter2-hunter2-x", "Cookie": "session=hunter3", "X-Api-Key": "hunter4"}


@pytest.mark.parametrize(("method", "path"), [("GET", "/report-error"), ("POST", "/break")])
def test_a_division_by_zero_is_answered_500_and_logged_once(
    site: Site, log: pytest.LogCaptureFixture, method: str, path: str
) -> None:
    # When something divides by zero
    answer = site.request(method, path, json={}, headers={**SECRETS, "User-Agent": "the-test"}, params={"a": "1"})
    # Then the client learns that it broke, and no more
    problem(answer, 500, "internal-error")
    assert "Zero" not in answer.text and ".py" not in answer.text
    # And the log has the exception, once, with the request that met it
    (record,) = [record for record in log.records if record.levelno == logging.ERROR]
    assert record.name == "services.gateway" and record.exc_info and record.exc_info[0] is ZeroDivisionError
    assert record.getMessage() == f"{method} {path} failed"
    request: RequestInfo = record.request  # type: ignore[attr-defined]
    assert (request.method, request.path, request.query, request.client) == (method, path, "a=1", "127.0.0.1")
    assert request.headers["user-agent"] == "the-test"
    assert record.status_code == 500  # type: ignore[attr-defined]
    # And neither has a secret
    assert "hunter" not in f"{request} {record.__dict__} {answer.text}"


def test_a_refusal_is_no_error(site: Site, log: pytest.LogCaptureFixture) -> None:
    for path in ("/nowhere", "/tasks/x", "/reports?limit=0"):
        assert 400 <= site.get(path).status_code < 500
    assert not [record for record in log.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/reports", "GET, POST"),
        ("PUT", "/reports/x", "GET, HEAD"),
        ("PATCH", "/tasks/x", "GET"),
        ("GET", "/break", "POST"),
        ("POST", "/static/page.js", "GET, HEAD"),
    ],
)
def test_a_method_that_a_route_does_not_take_is_refused(site: Site, method: str, path: str, allowed: str) -> None:
    answer = site.request(method, path, json={})
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == allowed


def test_an_address_where_nothing_is_says_where_something_is(site: Site) -> None:
    document = problem(site.get("/nowhere"), 404, "no-such-route")
    assert "'/nowhere'" in document["detail"] and "/docs" in document["detail"]
