"""So many requests a minute."""

from collections.abc import Callable

import pytest
import requests

from tests.stand_ins.github import GitHubStandIn, repository

Search = Callable[..., requests.Response]


class Clock:
    """Stands still until told otherwise."""

    def __init__(self) -> None:
        self.now = 1_773_576_000.25

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def github(serve: Callable[..., GitHubStandIn], clock: Clock) -> GitHubStandIn:
    return serve([repository("a/b")], rate_limits=True, clock=clock)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(("headers", "limit"), [({}, 10), (bearer("good"), 30), ({"Authorization": "token good"}, 30)])
def test_the_request_after_the_last_is_refused(
    github: GitHubStandIn, search: Search, clock: Clock, headers: dict[str, str], limit: int
) -> None:
    # Given a client that has used its minute up
    answers = [search(github, headers, q="b") for _ in range(limit)]
    assert [answer.status_code for answer in answers] == [200] * limit
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == [str(n) for n in reversed(range(limit))]
    # When it asks once more
    refused = search(github, headers, q="b")
    # Then it learns when it may ask again
    assert refused.status_code == 403
    assert "API rate limit exceeded" in refused.json()["message"]
    assert "Retry-After" not in refused.headers
    told = [refused.headers[f"X-RateLimit-{name}"] for name in ("Limit", "Remaining", "Used", "Reset", "Resource")]
    assert told == [str(limit), "0", str(limit), "1773576061", "search"]


def test_at_the_reset_the_minute_starts_again(github: GitHubStandIn, search: Search, clock: Clock) -> None:
    # Given a client that has been refused
    for _ in range(11):
        refused = search(github, q="b")
    reset = int(refused.headers["X-RateLimit-Reset"])
    # When it comes back just before the reset, Then it is refused again
    clock.now = reset - 0.01
    assert search(github, q="b").status_code == 403
    # When it comes back at the reset, Then it is served
    clock.now = reset
    assert search(github, q="b").headers["X-RateLimit-Remaining"] == "9"


def test_each_token_has_its_own(github: GitHubStandIn, search: Search) -> None:
    # Given an address and a token that are spent
    for _ in range(31):
        search(github, q="b")
        search(github, bearer("one"), q="b")
    # Then another token is not
    assert search(github, q="b").status_code == 403
    assert search(github, bearer("one"), q="b").status_code == 403
    assert search(github, bearer("two"), q="b").status_code == 200


def test_off_means_off(github: GitHubStandIn, search: Search) -> None:
    # Given a stand-in with its limits switched off
    github.control.change(rate_limits=False)
    # Then nobody is refused, and the headers give no reason to wait
    for _ in range(12):
        answer = search(github, q="b")
        assert (answer.status_code, answer.headers["X-RateLimit-Remaining"]) == (200, "10")


def test_what_is_no_search_is_not_counted(github: GitHubStandIn, search: Search) -> None:
    # Given requests with a bad token, for another path, and for the control routes
    search(github, bearer("bad-token"), q="b")
    requests.get(f"{github.url}/rate_limit", timeout=5)
    requests.get(f"{github.url}/_stand_in/requests", timeout=5)
    requests.get(f"{github.url}/healthz", timeout=5)
    # Then the first search is the first
    assert search(github, q="b").headers["X-RateLimit-Used"] == "1"


def test_a_refused_query_is_counted(github: GitHubStandIn, search: Search) -> None:
    search(github, q="created:never")
    assert search(github, q="b").headers["X-RateLimit-Used"] == "2"
