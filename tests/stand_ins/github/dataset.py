"""The repositories that the stand-in knows: from a CSV of real ones, or made up."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path

from tests.stand_ins.github import derived
from tests.stand_ins.github.made_up import made_up_rows

REPOSITORY_ROOT = Path(__file__).resolve().parents[3]
RANKINGS = "shared/data"  # beside the repository, not in it: see `default_repositories`
COLUMNS = ("username", "repo_name", "stars", "forks", "issues", "language", "description", "last_commit")


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository, with its age in place of a date, so that a server that runs for days keeps being fresh."""

    full_name: str
    id: int
    age: int  # whole days before today, UTC
    description: str | None
    language: str | None
    stars: int
    forks: int
    issues: int
    last_commit: datetime | None
    topics: tuple[str, ...]

    @property
    def owner(self) -> str:
        return self.full_name.partition("/")[0]

    @property
    def name(self) -> str:
        return self.full_name.partition("/")[2]

    def created_at(self, today: date) -> datetime:
        return derived.created_at(self.full_name, self.age, today)

    def pushed_at(self, today: date) -> datetime:
        """The last commit, where that lies between the derived creation and today's midnight."""
        created, latest = self.created_at(today), derived.midnight(today)
        return min(max(self.last_commit or created, created), latest)


def repository(
    full_name: str,
    *,
    description: str | None = None,
    language: str | None = None,
    stars: int = 0,
    forks: int = 0,
    issues: int = 0,
    last_commit: datetime | None = None,
    age: int | None = None,
    topics: Iterable[str] | None = None,
    id: int | None = None,
) -> Repository:
    """A repository `owner/name`; what is not given is derived (see `derived`)."""
    return Repository(
        full_name=full_name,
        id=derived.repository_id(full_name) if id is None else id,
        age=derived.age_in_days(full_name) if age is None else age,
        description=description,
        language=language,
        stars=stars,
        forks=forks,
        issues=issues,
        last_commit=last_commit,
        topics=derived.topics(full_name, language) if topics is None else tuple(topics),
    )


def distinct(repositories: Iterable[Repository]) -> tuple[Repository, ...]:
    """The first of each full name, with unique ids: where two meet, the later one takes the next free id."""
    first: dict[str, Repository] = {}
    taken: set[int] = set()
    for found in repositories:
        if found.full_name in first:
            continue
        free = found.id
        while free in taken:
            free += 1
        taken.add(free)
        first[found.full_name] = found if free == found.id else replace(found, id=free)
    return tuple(first.values())


def read_csv(path: Path) -> tuple[Repository, ...]:
    """The repositories of a ranking in CSV.

    Raises OSError where there is no such file, ValueError where it is not such a CSV.
    """
    with path.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines)
        missing = set(COLUMNS) - set(rows.fieldnames or ())
        if missing:
            raise ValueError(f"{path} lacks the columns {', '.join(sorted(missing))}")
        return distinct(_from_row(row) for row in rows)


def _from_row(row: dict[str, str]) -> Repository:
    return repository(
        f"{row['username']}/{row['repo_name']}",
        description=row["description"] or None,
        language=row["language"] or None,
        stars=int(row["stars"]),
        forks=int(row["forks"]),
        issues=int(row["issues"]),
        last_commit=_moment(row["last_commit"]),
    )


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def made_up_repositories(seed: int = 0) -> tuple[Repository, ...]:
    """2,000 repositories that nobody wrote, the same for the same seed."""
    return distinct(_from_row(row) for row in made_up_rows(seed))


def find_ranking() -> Path | None:
    """The newest `github-ranking-*.csv` in `shared/data` beside the repository, if that folder exists."""
    return max((REPOSITORY_ROOT.parent / RANKINGS).glob("github-ranking-*.csv"), default=None)


@lru_cache(maxsize=1)
def default_repositories() -> tuple[Repository, ...]:
    """Real repositories where a ranking lies beside the repository, made-up ones elsewhere."""
    ranking = find_ranking()
    return read_csv(ranking) if ranking else made_up_repositories()
