"""Which repositories answer a query, in which order, and which of them a page holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from math import ceil

from tests.stand_ins.github.dataset import Repository
from tests.stand_ins.github.query import Query, parse

CEILING = 1_000  # results that a search shows, however many it counts
PAGE_SIZE, LARGEST_PAGE = 30, 100
LONGEST_NUMBER = 9  # digits; a longer one is past the ceiling however it goes on


@dataclass(frozen=True, slots=True)
class Found:
    """A repository as of a day."""

    repository: Repository
    created_at: datetime
    pushed_at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Which slice of the results is asked for; numbers count from 1."""

    number: int
    size: int

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Page":
        """What GitHub makes of `page` and `per_page`: it takes the default for what it cannot read, and clamps."""
        return cls(
            number=_positive(query.get("page"), otherwise=1),
            size=min(_positive(query.get("per_page"), otherwise=PAGE_SIZE), LARGEST_PAGE),
        )

    @property
    def start(self) -> int:
        return (self.number - 1) * self.size

    def last(self, total: int) -> int:
        """The number of the last page of `total` results that can be had: it may reach past the ceiling."""
        return max(ceil(min(total, CEILING) / self.size), 1)


def _positive(text: str | None, otherwise: int) -> int:
    if text is None or not (text.isascii() and text.isdigit()):
        return otherwise
    return int(text[:LONGEST_NUMBER]) or otherwise


class Catalogue:
    """The repositories, searchable as of any day."""

    def __init__(self, repositories: tuple[Repository, ...]) -> None:
        self._repositories = repositories
        # The pages of one report ask the same question at the same time: answer it once.
        self.search = lru_cache(maxsize=32)(self._search)
        self._as_of = lru_cache(maxsize=2)(self._dated)

    def _search(self, q: str, sort: str, order: str, today: date) -> tuple[Found, ...]:
        """All that match, in order. Raises QueryInvalid or NotImplementedHere."""
        query = parse(q)
        matches = [found for found in self._as_of(today) if query.matches(found.repository, found.created_at)]
        # Two stable sorts: by id, so that ties always come in the same order, and then by what was asked for.
        matches.sort(key=lambda found: found.repository.id)
        matches.sort(key=lambda found: _rank(found, sort, query), reverse=order != "asc" or sort not in SORTS)
        return tuple(matches)

    def _dated(self, today: date) -> tuple[Found, ...]:
        return tuple(Found(each, each.created_at(today), each.pushed_at(today)) for each in self._repositories)


SORTS = frozenset({"stars", "forks", "updated"})


def _rank(found: Found, sort: str, query: Query) -> float | tuple[bool, int]:
    match sort:
        case "stars":
            return found.repository.stars
        case "forks":
            return found.repository.forks
        case "updated":
            return found.pushed_at.timestamp()
    return (query.named_by(found.repository), found.repository.stars)  # best match; GitHub's own is not published
