"""The search language."""

from collections.abc import Callable, Iterator
from datetime import date

import pytest
import requests

from tests.stand_ins.github import GitHubStandIn, repository

# Today is 2026-03-15, and what is a day old was created at some second of the 14th.
REPOSITORIES = (
    repository("acme/today", age=0, stars=30, language="Python", topics=("cli",)),
    repository("acme/yesterday", age=1, stars=20, language="Jupyter Notebook", topics=("cli", "data-science")),
    repository("acme/week", age=5, stars=10, language="C++", description="Запуск QUEUES, today", topics=()),
    repository("acme/old", age=100, stars=20, language=None, description=None, topics=("data-science",)),
)


@pytest.fixture(scope="module")
def github() -> Iterator[GitHubStandIn]:
    with GitHubStandIn(REPOSITORIES, today=date(2026, 3, 15), rate_limits=False) as running:
        yield running


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        # a day is 24 hours long
        ("created:>=2026-03-14", "today yesterday"),
        ("created:>2026-03-14", "today"),
        ("created:<=2026-03-14", "yesterday week old"),
        ("created:<2026-03-14", "week old"),
        ("created:2026-03-14", "yesterday"),
        ("created:2026-03-10..2026-03-14", "yesterday week"),
        ("created:2026-03-14..*", "today yesterday"),
        ("created:*..2026-03-14", "yesterday week old"),
        ("created:*..*", "today yesterday week old"),
        ("created:2026-03-14..2026-03-10", ""),
        # a moment is a second long, and knows time zones
        ("created:2026-03-15T00:00:00Z", "today"),
        ("created:>2026-03-15T00:00:00Z", ""),
        ("created:>=2026-03-15T00:00:00Z", "today"),
        ("created:<2026-03-15T00:00:00Z", "yesterday week old"),
        ("created:2026-03-15T01:00:00+01:00", "today"),
        ("created:2026-03-14T00:00:00..2026-03-14T23:59:59", "yesterday"),
        ("-created:>=2026-03-14", "week old"),
        ("language:python", "today"),
        ("language:PYTHON", "today"),
        ('language:"Jupyter Notebook"', "yesterday"),
        ("language:jupyter-notebook", "yesterday"),
        ("language:c++", "week"),
        ("language:python language:c++", "today week"),
        ("-language:python", "yesterday week old"),
        ("language:nonesuch", ""),
        ("topic:cli", "today yesterday"),
        ("topic:cli topic:data-science", "yesterday"),
        ("-topic:cli", "week old"),
        ("stars:20", "yesterday old"),
        ("stars:>=20", "today yesterday old"),
        ("stars:>20", "today"),
        ("stars:<=20", "yesterday week old"),
        ("stars:<20", "week"),
        ("stars:10..20", "yesterday week old"),
        ("stars:20..*", "today yesterday old"),
        ("stars:*..10", "week"),
        ("today", "today week"),
        ("TODAY queues", "week"),
        ("запуск", "week"),
        ('"queues, today"', "week"),
        ("today -queues", "today"),
        ("acme", ""),  # the owner is not searched
        ("https://example", ""),
        ("today stars:>10 created:>=2026-03-14 language:python topic:cli", "today"),
    ],
)
def test_a_query_finds(github: GitHubStandIn, search: Callable[..., requests.Response], q: str, expected: str) -> None:
    answer = search(github, q=q)
    assert answer.status_code == 200, answer.text
    assert {item["name"] for item in answer.json()["items"]} == set(expected.split())
    assert answer.json()["total_count"] == len(expected.split())


@pytest.mark.parametrize("query", [{}, {"q": ""}, {"q": "  "}, {"sort": "stars"}])
def test_a_missing_query_is_refused(
    github: GitHubStandIn, search: Callable[..., requests.Response], query: dict[str, str]
) -> None:
    answer = search(github, **query)
    assert answer.status_code == 422
    assert answer.json()["message"] == "Validation Failed"
    assert answer.json()["errors"] == [{"resource": "Search", "field": "q", "code": "missing"}]
    assert answer.json()["documentation_url"].startswith("https://docs.github.com/")


@pytest.mark.parametrize(
    "q",
    [
        "created:yesterday",
        "created:",
        "created:>=",
        "created:2026-13-01",
        "created:>=2026-02-30",
        "created:2026-3-1",
        "created:2026-01-01..soon",
        "created:..",
        "created:2026-01-01T25:00:00Z",
        "created:٢٠٢٦-٠١-٠١",
        "created:=>2026-01-01",
        "stars:many",
        "stars:-1",
        "stars:",
        "x" * 257,
    ],
)
def test_a_malformed_query_is_refused(github: GitHubStandIn, search: Callable[..., requests.Response], q: str) -> None:
    answer = search(github, q=q)
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert (error["resource"], error["field"], error["code"]) == ("Search", "q", "invalid")
    if q.startswith("created:"):
        assert "is not a recognized date/time format" in error["message"]


@pytest.mark.parametrize("q", ["user:celery", "a OR b", "NOT a", "pushed:>2026-01-01", "stars:>1 stars:<9"])
def test_what_only_github_can_answer_is_no_answer(
    github: GitHubStandIn, search: Callable[..., requests.Response], q: str
) -> None:
    # A stand-in that ignored a qualifier would let a wrong query pass a test.
    assert search(github, q=q).status_code == 501


def test_qualifiers_do_not_count_as_text(github: GitHubStandIn, search: Callable[..., requests.Response]) -> None:
    assert search(github, q="x" * 250 + " language:python topic:cli").status_code == 200
