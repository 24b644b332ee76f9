"""The weekly report computed from the data alone: nothing of the reporter is used here."""

import csv
import io
from datetime import date, timedelta
from hashlib import blake2b
from typing import NamedTuple

from tests.stand_ins.github.dataset import find_ranking, made_up_repositories


class Known(NamedTuple):
    """What the data says of a repository."""

    full_name: str
    stars: int
    language: str


def hottest(since: date, today: date, count: int) -> list[Known]:
    """The `count` most starred repositories created on or after `since`, as a search of GitHub gives them.

    GitHub's order among equals is not the report's: it decides who is in, and the report sorts equals by name.
    """
    fresh = [known for known in _all() if today - timedelta(days=_age(known.full_name)) >= since]
    by_search = sorted(fresh, key=lambda known: (-known.stars, _id(known.full_name)))[:count]
    return sorted(by_search, key=lambda known: (-known.stars, known.full_name))


def grouped(repos: list[Known]) -> bytes:
    """One line a language, sorted; its repositories in order of stars."""
    languages: dict[str, list[str]] = {}
    for known in repos:
        languages.setdefault(known.language, []).append(known.full_name)
    text = io.StringIO(newline="")
    csv.writer(text).writerows([language, *languages[language]] for language in sorted(languages))
    return text.getvalue().encode()


def _all() -> list[Known]:
    ranking = find_ranking()
    if ranking is None:
        return [Known(one.full_name, one.stars, one.language or "unknown") for one in made_up_repositories()]
    first: dict[str, Known] = {}
    with ranking.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            name = f"{row['username']}/{row['repo_name']}"
            first.setdefault(name, Known(name, int(row["stars"]), row["language"] or "unknown"))
    return list(first.values())


def _hash(label: str, name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8, person=label.encode()).digest(), "big")


def _age(name: str) -> int:
    # The stand-in's published formula, written again.
    k, n = divmod(_hash("age", name), 10_000)
    if n < 3500:
        return k % 2
    if n < 6000:
        return 2 + k % 5
    if n < 8500:
        return 7 + k % 21
    return 32 + k % 3619


def _id(name: str) -> int:
    return 100_000_000 + _hash("id", name) % 900_000_000
