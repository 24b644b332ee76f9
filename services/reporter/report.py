"""From pages to a report: pure functions, no network and no files."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from shared.signatures.reporter import GroupBy, Layout, Page, Repo, WrittenFile

Cell = str | int
Row = Sequence[Cell]

#: The group of a repository without a language, or without topics.
UNKNOWN = "unknown"
TABLE_HEADER = ("rank", "full_name", "stars", "forks", "language", "topics", "created_at", "url", "description")
INDEX_HEADER = ("language", "repositories", "file", "bytes", "sha256")

#: A spreadsheet takes a cell that begins with one of these for a formula, or runs into it after trimming.
#: Source: OWASP, CSV Injection.
FORMULA_TRIGGERS = ("=", "+", "-", "@", "\t", "\r", "\n")
#: NUL, which readers choke on; and U+FEFF, which at the start of a file is a byte order mark and would hide a trigger.
_DROPPED = {0: None, 0xFEFF: None}

#: Characters. With `.csv` and what stands for the rest of a longer name, it stays under a file name's 255 bytes.
_LONGEST_PLAIN_NAME = 180


def join(pages: Iterable[Page]) -> tuple[list[Repo], list[str]]:
    """All repositories once, most starred first, and what is missing, in words.

    A repository gains stars while the pages are fetched, so it can move from one page to the next and be seen twice;
    the sight with more stars is the later one.
    """
    warnings = []
    seen: Counter[str] = Counter()
    best: dict[str, Repo] = {}
    for page in sorted(pages, key=lambda page: page.number):
        if not page.repos:
            warnings.append(f"page {page.number} was empty")
        if page.incomplete:
            warnings.append(f"page {page.number} is incomplete: GitHub ran out of time")
        seen.update({repo.full_name for repo in page.repos})
        for repo in page.repos:
            known = best.get(repo.full_name)
            if known is None or repo.stars > known.stars:
                best[repo.full_name] = repo
    twice = sum(count > 1 for count in seen.values())
    if twice:
        warnings.append("1 repository was on two pages" if twice == 1 else f"{twice} repositories were on two pages")
    return by_stars(best.values()), warnings


def by_stars(repos: Iterable[Repo]) -> list[Repo]:
    """Most starred first; equals by name, so that the same repositories always make the same file."""
    return sorted(repos, key=lambda repo: (-repo.stars, repo.full_name))


def group(repos: Iterable[Repo], group_by: GroupBy) -> dict[str, list[Repo]]:
    """The repositories under their language, or under each of their topics; `unknown` where GitHub has none.

    Groups come in the order in which they are met, and the order within each is kept.
    """
    groups: dict[str, list[Repo]] = {}
    for repo in repos:
        names = [repo.language] if group_by == "language" else repo.topics
        for name in dict.fromkeys(name or UNKNOWN for name in names or [UNKNOWN]):
            groups.setdefault(name, []).append(repo)
    return groups


def languages(repos: Iterable[Repo]) -> dict[str, int]:
    """How many repositories each language has: the largest first, equals by name."""
    counts = Counter(repo.language or UNKNOWN for repo in repos)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def rows(repos: Iterable[Repo], layout: Layout, group_by: GroupBy) -> list[Row]:
    """The report in its layout. Only a table has a header."""
    return table_rows(repos, group_by) if layout == "table" else grouped_rows(repos, group_by)


def grouped_rows(repos: Iterable[Repo], group_by: GroupBy) -> list[Row]:
    """One row a group, without a header: the group's name, then the full names of its repositories, most starred first.

    Groups stand in code-point order (`C`, `C++`, `Zig`, `unknown`), the same on every machine.
    """
    groups = group(by_stars(repos), group_by)
    return [[name, *(repo.full_name for repo in groups[name])] for name in sorted(groups)]


def table_rows(repos: Iterable[Repo], group_by: GroupBy) -> list[Row]:
    """A header, then one row a repository, most starred first.

    `group_by` changes nothing: a row carries both the language and all topics, so that whoever opens the table groups
    it there. A repository with many topics is still one row, or sums over the table would count it twice.
    """
    return [
        TABLE_HEADER,
        *(
            (
                rank,
                repo.full_name,
                repo.stars,
                repo.forks,
                repo.language or UNKNOWN,
                " ".join(repo.topics),
                _iso(repo.created_at),
                repo.url,
                repo.description or "",
            )
            for rank, repo in enumerate(by_stars(repos), start=1)
        ),
    ]


def index_rows(files: Iterable[WrittenFile], languages: Mapping[str, int]) -> list[Row]:
    """A header, then one row a language's file, in code-point order of the language.

    Args:
        languages: how many repositories each has; a file's own `rows` are groups where its layout is grouped.
    """
    rows = [
        (language, languages.get(language, 0), file.name, file.bytes, file.sha256)
        for file in files
        for language in (file.group or UNKNOWN,)
    ]
    return [INDEX_HEADER, *sorted(rows)]


def encode(rows: Iterable[Row]) -> bytes:
    """The rows as CSV: UTF-8 without a byte order mark, RFC 4180 (CRLF), and no cell that a spreadsheet would run.

    A text that begins with a formula trigger gets a leading apostrophe; NUL and U+FEFF are dropped. Numbers stay as
    they are.
    """
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_defuse(cell) for cell in row] for row in rows)
    # A half of a surrogate pair has no UTF-8: better a `?` in a description than no report.
    return text.getvalue().encode("utf-8", errors="replace")


def language_file_name(language: str) -> str:
    """A file name for any language, without a folder in it: `C++` is `C%2B%2B.csv`, and no two languages share one."""
    name = quote(language, safe="")
    if name.startswith("."):
        # `quote` lets dots pass, and a leading one hides a file or leads out of the folder.
        name = "%2E" + name[1:]
    if len(name) > _LONGEST_PLAIN_NAME:
        digest = hashlib.sha256(language.encode()).hexdigest()
        name = f"{name[:_LONGEST_PLAIN_NAME]}-{digest}"
    return f"{name}.csv"


def _defuse(cell: Cell) -> Cell:
    if isinstance(cell, int):
        return cell
    # Dropping comes first: what stands behind a NUL may be a trigger.
    cell = cell.translate(_DROPPED)
    return f"'{cell}" if cell.startswith(FORMULA_TRIGGERS) else cell


def _iso(moment: datetime | None) -> str:
    """ISO 8601 in UTC, to the second; a moment without a zone is taken for UTC, as GitHub's are."""
    if moment is None:
        return ""
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
