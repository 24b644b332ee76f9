"""The data: the same everywhere, fresh every day, and as varied as the real thing."""

import subprocess
import sys
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from pathlib import Path

import pytest
import requests

from tests.missing import missing
from tests.stand_ins.github import (
    GitHubStandIn,
    Repository,
    default_repositories,
    made_up_repositories,
    read_csv,
    repository,
)
from tests.stand_ins.github.dataset import REPOSITORY_ROOT, distinct, find_ranking


def ranking() -> Path:
    """The real data, which is not a part of the repository."""
    return find_ranking() or missing("no ranking lies beside the repository, in ../shared/data")


def real_repositories() -> tuple[Repository, ...]:
    """What a stand-in starts with where the ranking is."""
    ranking()
    return default_repositories()


BOTH_SETS = [pytest.param(made_up_repositories, id="made up"), pytest.param(real_repositories, id="real")]
HEADER = "rank,item,repo_name,stars,forks,language,repo_url,username,issues,last_commit,description\n"


@pytest.mark.parametrize("load", BOTH_SETS)
@pytest.mark.parametrize(("days", "least"), [(1, 600), (7, 1_000), (28, 1_500)])
def test_each_window_has_enough(
    load: Callable[[], tuple[Repository, ...]],
    days: int,
    least: int,
    today: date,
    serve: Callable[..., GitHubStandIn],
    search: Callable[..., requests.Response],
) -> None:
    # Given a stand-in with a whole set
    github = serve(load())
    # When I count what was created since a day, a week, the shortest month ago
    answer = search(github, q=f"created:>={today - timedelta(days=days)}").json()
    # Then there is enough for a report
    assert answer["total_count"] >= least


@pytest.mark.parametrize("load", BOTH_SETS)
def test_some_are_older_than_a_month_and_none_than_ten_years(load: Callable[[], tuple[Repository, ...]]) -> None:
    ages = [each.age for each in load()]
    assert sum(age > 31 for age in ages) > 100
    assert max(ages) <= 3_650


@pytest.mark.parametrize("load", BOTH_SETS)
def test_dates_follow_the_documented_formula(load: Callable[[], tuple[Repository, ...]], today: date) -> None:
    def h(label: str, name: str) -> int:
        return int.from_bytes(blake2b(name.encode(), digest_size=8, person=label.encode()).digest(), "big")

    for each in load():
        # Given the formula, written out a second time
        n, k = h("age", each.full_name) % 10_000, h("age", each.full_name) // 10_000
        age = k % 2 if n < 3_500 else 2 + k % 5 if n < 6_000 else 7 + k % 21 if n < 8_500 else 32 + k % 3_619
        second = 0 if age == 0 else h("second", each.full_name) % 86_400
        expected = datetime(today.year, today.month, today.day, tzinfo=UTC) + timedelta(days=-age, seconds=second)
        # Then the repository was created when it says
        assert each.created_at(today) == expected


@pytest.mark.parametrize("load", BOTH_SETS)
def test_nothing_lies_ahead(load: Callable[[], tuple[Repository, ...]]) -> None:
    # Given the first moment of a day, when the least has happened yet
    today = date(2026, 8, 22)
    midnight = datetime(2026, 8, 22, tzinfo=UTC)
    for each in load():
        assert each.created_at(today) <= each.pushed_at(today) <= midnight


@pytest.mark.parametrize("load", BOTH_SETS)
def test_names_and_ids_are_unique(load: Callable[[], tuple[Repository, ...]]) -> None:
    everything = load()
    assert len({each.full_name for each in everything}) == len({each.id for each in everything}) == len(everything)


@pytest.mark.parametrize("load", BOTH_SETS)
def test_topics_are_few_and_in_githubs_spelling(load: Callable[[], tuple[Repository, ...]]) -> None:
    everything = load()
    assert {len(each.topics) for each in everything} == {0, 1, 2, 3, 4, 5}
    assert all(len(set(each.topics)) == len(each.topics) for each in everything)
    letters = set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert all(set(topic) <= letters for each in everything for topic in each.topics)


def test_the_first_row_of_a_name_stays(tmp_path: Path) -> None:
    # Given a ranking in which one repository stands twice
    ranking = tmp_path / "ranking.csv"
    row = "{rank},top,celery,{stars},1,Python,https://github.com/celery/celery,celery,1,2026-01-01T00:00:00Z,\n"
    ranking.write_text(HEADER + row.format(rank=1, stars=20) + row.format(rank=2, stars=10), encoding="utf-8")
    # When I read it, Then the first row is the one that counts
    [only] = read_csv(ranking)
    assert (only.full_name, only.stars, only.description) == ("celery/celery", 20, None)


def test_another_csv_is_refused_by_the_names_it_lacks(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("repo_name,stars\nx,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="lacks the columns description, forks"):
        read_csv(other)


def test_ids_that_meet_are_told_apart() -> None:
    # Given two repositories whose ids collide
    first, second = distinct([repository("a/a", id=500), repository("b/b", id=500)])
    # Then the later one takes the next free id
    assert (first.id, second.id) == (500, 501)


def test_another_process_derives_the_same() -> None:
    # Given an interpreter with another seed for hash()
    code = (
        "from tests.stand_ins.github import made_up_repositories as m;"
        "print(sum(r.id * r.age * (r.stars + len(r.topics)) for r in m(7)))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY_ROOT,
        env={"PYTHONHASHSEED": "4711"},
        capture_output=True,
        check=True,
    )
    # Then it makes up the very same set
    expected = sum(each.id * each.age * (each.stars + len(each.topics)) for each in made_up_repositories(7))
    assert int(other.stdout) == expected


def test_another_seed_makes_up_others() -> None:
    assert made_up_repositories(1) == made_up_repositories(1)
    assert {each.full_name for each in made_up_repositories(1)} != {each.full_name for each in made_up_repositories(2)}


def test_the_made_up_set_holds_what_trips_readers() -> None:
    everything = made_up_repositories()
    descriptions = {each.description or "" for each in everything}
    assert len(everything) == 2_000
    assert all(any(text.startswith(sign) for text in descriptions) for sign in "=+-@")
    assert all(any(mark in text for text in descriptions) for mark in (",", '"', "🚀", "队", "メ", "ة", "ая", "작"))
    assert sum(each.language is None for each in everything) > 20
    assert sum(each.description is None for each in everything) > 20
    assert len({each.language for each in everything}) >= 12
    assert Counter(each.stars for each in everything if each.stars > 1_000).most_common(1)[0][1] > 1


def test_the_real_set_is_the_ranking_beside_the_repository() -> None:
    assert real_repositories() == read_csv(ranking())
    assert len(default_repositories()) >= 2_000


def test_a_server_that_runs_for_days_stays_fresh(
    serve: Callable[..., GitHubStandIn], search: Callable[..., requests.Response]
) -> None:
    # Given a stand-in that has run since yesterday, and a repository of "today"
    now = [datetime(2026, 3, 15, 23, 59, tzinfo=UTC).timestamp()]
    github = serve([repository("a/b", age=0)], today=None, clock=lambda: now[0])
    before = search(github, q="b").json()["items"][0]["created_at"]
    # When midnight passes
    now[0] += 120
    # Then the repository is still one of today
    assert (before, search(github, q="b").json()["items"][0]["created_at"]) == (
        "2026-03-15T00:00:00Z",
        "2026-03-16T00:00:00Z",
    )


def test_an_item_has_githubs_fields(
    serve: Callable[..., GitHubStandIn], search: Callable[..., requests.Response]
) -> None:
    # Given a repository without language, description and topics
    github = serve([repository("Some-Org/some.repo", age=3, stars=5, forks=2, issues=1, topics=())])
    # When I find it
    [item] = search(github, q="some").json()["items"]
    # Then all that a client reads is there, under GitHub's names
    assert (item["full_name"], item["name"], item["owner"]["login"]) == ("Some-Org/some.repo", "some.repo", "Some-Org")
    assert item["html_url"] == "https://github.com/Some-Org/some.repo"
    assert item["language"] is item["description"] is None
    assert item["stargazers_count"] == item["watchers_count"] == item["watchers"] == 5
    assert item["forks_count"] == item["forks"] == 2
    assert item["open_issues_count"] == item["open_issues"] == 1
    assert datetime.fromisoformat(item["created_at"]) <= datetime.fromisoformat(item["pushed_at"])
    assert item["owner"].keys() >= {"login", "id", "html_url", "type"}
    assert item.keys() >= {"id", "private", "fork", "url", "updated_at", "homepage", "size", "license", "topics"}
    assert item.keys() >= {"visibility", "default_branch", "score"}
    assert urlsafe_b64decode(item["node_id"].removeprefix("R_") + "==")[3:] == item["id"].to_bytes(4, "big")
