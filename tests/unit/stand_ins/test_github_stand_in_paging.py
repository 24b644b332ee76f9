"""Pages, their neighbours, their order, and the ceiling."""

from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.stand_ins.github import GitHubStandIn, repository

Serve = Callable[..., GitHubStandIn]
Search = Callable[..., requests.Response]


def numbers(answer: requests.Response) -> dict[str, str]:
    """The pages that an answer links to, by relation."""
    return {name: link["url"].rpartition("page=")[2] for name, link in answer.links.items() if name}


def stars(answer: requests.Response) -> list[int]:
    return [item["stargazers_count"] for item in answer.json()["items"]]


def test_pages_join_to_the_whole(thirty_five: GitHubStandIn, search: Search) -> None:
    # Given 35 repositories
    # When I fetch pages of ten
    pages = [search(thirty_five, q="repo", sort="stars", per_page=10, page=page) for page in (1, 2, 3, 4)]
    # Then they hold each repository once, in order
    assert [count for page in pages for count in stars(page)] == list(range(35, 0, -1))
    assert {page.json()["total_count"] for page in pages} == {35}


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (1, {"next": "2", "last": "4"}),
        (2, {"prev": "1", "next": "3", "last": "4", "first": "1"}),
        (4, {"prev": "3", "first": "1"}),
        (9, {"prev": "4", "first": "1"}),
    ],
)
def test_a_page_links_to_its_neighbours(
    thirty_five: GitHubStandIn, search: Search, page: int, expected: dict[str, str]
) -> None:
    answer = search(thirty_five, q="repo", per_page=10, page=page)
    assert numbers(answer) == expected
    assert list(answer.links) == list(expected)


def test_links_can_be_followed(thirty_five: GitHubStandIn, search: Search) -> None:
    # Given the first page of a query with signs that need escaping
    page = search(thirty_five, q="repo created:>=2026-03-15", per_page=10, sort="stars")
    found = stars(page)
    # When I follow the links to the end
    while "next" in page.links:
        page = requests.get(page.links["next"]["url"], timeout=5)
        found += stars(page)
    # Then I have seen everything
    assert found == list(range(35, 0, -1))


def test_one_page_has_no_links(thirty_five: GitHubStandIn, search: Search) -> None:
    assert "Link" not in search(thirty_five, q="repo", per_page=35).headers


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({}, 30),
        ({"per_page": 1}, 1),
        ({"per_page": 100}, 35),
        ({"per_page": 1000}, 35),
        ({"per_page": 0}, 30),
        ({"per_page": "many"}, 30),
        ({"per_page": -1}, 30),
        ({"page": 0}, 30),
        ({"page": "two"}, 30),
        ({"page": 2}, 5),
        ({"page": 3}, 0),
    ],
)
def test_what_is_no_number_is_the_default(
    thirty_five: GitHubStandIn, search: Search, query: dict[str, Any], count: int
) -> None:
    answer = search(thirty_five, q="repo", **query)
    assert (answer.status_code, len(answer.json()["items"])) == (200, count)


@pytest.mark.parametrize(("per_page", "last"), [(100, 10), (30, 34), (7, 143), (1, 1000), (500, 10)])
def test_the_first_thousand_are_all(serve: Serve, search: Search, per_page: int, last: int) -> None:
    # Given more results than GitHub shows
    github = serve(repository(f"owner/repo-{number}", age=0) for number in range(1_050))
    # When I ask for the last page that begins below the ceiling
    answer = search(github, q="repo", per_page=per_page, page=last)
    # Then it comes whole, counts them all, and no page follows it
    assert (answer.status_code, len(answer.json()["items"])) == (200, min(per_page, 100))
    assert answer.json()["total_count"] == 1_050
    assert "next" not in answer.links
    assert numbers(search(github, q="repo", per_page=per_page))["last"] == str(last)
    # And the one after it is refused
    refused = search(github, q="repo", per_page=per_page, page=last + 1)
    assert refused.status_code == 422
    assert refused.json()["message"] == "Only the first 1000 search results are available"


@pytest.mark.parametrize("page", [11, 99_999_999, 10**40])
def test_the_ceiling_holds_for_few_results_too(thirty_five: GitHubStandIn, search: Search, page: int) -> None:
    assert search(thirty_five, q="repo", per_page=100, page=page).status_code == 422


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"sort": "stars"}, "b a c"),
        ({"sort": "stars", "order": "desc"}, "b a c"),
        ({"sort": "stars", "order": "asc"}, "a c b"),
        ({"sort": "stars", "order": "sideways"}, "b a c"),
        ({"sort": "forks"}, "c b a"),
        ({"sort": "forks", "order": "asc"}, "a b c"),
        ({"sort": "updated"}, "a c b"),
        ({}, "b a c"),
        ({"sort": "nonesuch"}, "b a c"),
        ({"order": "asc"}, "b a c"),  # an order without a sort means nothing
    ],
)
def test_order(serve: Serve, search: Search, query: dict[str, str], expected: str) -> None:
    # Given two repositories with equal stars
    github = serve(
        [
            repository("x/c", id=3, age=2, stars=1, forks=3),
            repository("x/a", id=1, age=0, stars=1, forks=1),
            repository("x/b", id=2, age=9, stars=5, forks=2),
        ]
    )
    # When I ask for an order, Then ties are broken by id
    answer = search(github, q="stars:>0", **query)
    assert [item["name"] for item in answer.json()["items"]] == expected.split()


def test_the_best_match_has_the_word_in_its_name(serve: Serve, search: Search) -> None:
    github = serve(
        [repository("x/other", stars=9, description="a broker"), repository("x/broker", stars=1), repository("x/no")]
    )
    assert [item["name"] for item in search(github, q="broker").json()["items"]] == ["broker", "other"]
