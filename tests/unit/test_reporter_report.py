"""From pages to rows and bytes."""

import csv
import io
import itertools
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reporter import report
from shared.signatures.reporter import Page, Repo, WrittenFile


def repo(name: str, stars: int = 1, **more: Any) -> Repo:
    return Repo(full_name=name, url=f"https://github.com/{name}", stars=stars, **more)


def page(number: int, *repos: Repo, incomplete: bool = False) -> Page:
    return Page(number=number, repos=list(repos), incomplete=incomplete)


def names(repos: list[Repo]) -> list[str]:
    return [each.full_name for each in repos]


def read(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


# --- Joining ----------------------------------------------------------------------------------------------------------


def test_pages_join_in_order_of_stars_then_name() -> None:
    # Given pages that overlap in stars
    pages = [page(1, repo("b/b", 5), repo("a/z", 9)), page(2, repo("a/a", 5))]
    # When they are joined
    repos, warnings = report.join(pages)
    # Then the most starred comes first, and equals come by name
    assert names(repos) == ["a/z", "a/a", "b/b"]
    assert warnings == []


@pytest.mark.parametrize("counts", [(7, 8), (8, 7)])
def test_a_repository_on_two_pages_counts_once_with_its_most_stars(counts: tuple[int, int]) -> None:
    first, second = counts
    repos, warnings = report.join([page(1, repo("a/a", first)), page(2, repo("a/a", second), repo("b/b", 1))])
    assert [(each.full_name, each.stars) for each in repos] == [("a/a", 8), ("b/b", 1)]
    assert warnings == ["1 repository was on two pages"]


def test_what_is_missing_is_said_in_words() -> None:
    # Given pages that came in another order than they were asked for
    twice = [repo("a/a"), repo("b/b")]
    pages = [page(3), page(2, *twice, incomplete=True), page(1, *twice)]
    # Then each warning names its page
    assert report.join(pages)[1] == [
        "page 2 is incomplete: GitHub ran out of time",
        "page 3 was empty",
        "2 repositories were on two pages",
    ]


def test_nothing_joins_to_nothing() -> None:
    assert report.join([]) == ([], [])


# --- Counting and grouping --------------------------------------------------------------------------------------------

ZOO = [
    repo("r/one", 3, language="Rust", topics=["cli", "tui"]),
    repo("p/two", 9, language="Python", topics=["cli", "cli"]),
    repo("r/three", 5, language="Rust"),
    repo("x/four", 5),
    repo("c/five", 4, language="c++", topics=["Tui"]),
]


def test_languages_are_counted_the_largest_first_then_by_name() -> None:
    assert list(report.languages(ZOO).items()) == [("Rust", 2), ("Python", 1), ("c++", 1), ("unknown", 1)]


def test_a_row_for_each_language_in_code_point_order() -> None:
    assert report.grouped_rows(ZOO, "language") == [
        ["Python", "p/two"],
        ["Rust", "r/three", "r/one"],
        ["c++", "c/five"],
        ["unknown", "x/four"],
    ]


def test_a_repository_stands_once_under_each_of_its_topics() -> None:
    assert report.grouped_rows(ZOO, "topic") == [
        ["Tui", "c/five"],
        ["cli", "p/two", "r/one"],
        ["tui", "r/one"],
        ["unknown", "r/three", "x/four"],
    ]


def test_grouping_keeps_every_repository() -> None:
    groups = report.group(ZOO, "language")
    assert sorted(names([each for members in groups.values() for each in members])) == sorted(names(ZOO))
    assert {name: len(members) for name, members in groups.items()} == report.languages(ZOO)


@pytest.mark.parametrize("group_by", ["language", "topic"])
def test_no_repositories_make_no_groups(group_by: Any) -> None:
    assert report.grouped_rows([], group_by) == []


# --- Tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group_by", ["language", "topic"])
def test_a_table_has_one_row_a_repository_however_it_is_grouped(group_by: Any) -> None:
    header, *rows = report.table_rows(ZOO, group_by)
    assert header == (
        "rank", "full_name", "stars", "forks", "language", "topics", "created_at", "url", "description",
    )  # fmt: skip
    assert [row[:3] for row in rows] == [
        (1, "p/two", 9),
        (2, "r/three", 5),
        (3, "x/four", 5),
        (4, "c/five", 4),
        (5, "r/one", 3),
    ]


def test_a_row_tells_all_of_a_repository() -> None:
    paris = timezone(timedelta(hours=2))
    full = repo(
        "a/a", 7, forks=2, language="Zig", description="Fast", topics=["x", "y"],
        created_at=datetime(2026, 6, 1, 1, 30, 5, 999, tzinfo=paris),
    )  # fmt: skip
    assert report.table_rows([full], "language")[1] == (
        1, "a/a", 7, 2, "Zig", "x y", "2026-05-31T23:30:05Z", "https://github.com/a/a", "Fast",
    )  # fmt: skip


def test_a_row_bears_what_is_not_known() -> None:
    row = report.table_rows([repo("a/a")], "language")[1]
    assert row == (1, "a/a", 1, 0, "unknown", "", "", "https://github.com/a/a", "")


def test_a_moment_without_a_zone_is_utc() -> None:
    moments = [datetime(2026, 6, 1, 12), datetime(2026, 6, 1, 12, tzinfo=UTC)]
    assert {report.table_rows([repo("a/a", created_at=each)], "topic")[1][6] for each in moments} == {
        "2026-06-01T12:00:00Z"
    }


@pytest.mark.parametrize("group_by", ["language", "topic"])
def test_the_layout_chooses_the_rows(group_by: Any) -> None:
    assert report.rows(ZOO, "table", group_by) == report.table_rows(ZOO, group_by)
    assert report.rows(ZOO, "grouped", group_by) == report.grouped_rows(ZOO, group_by)


def test_an_index_has_one_row_a_file() -> None:
    files = [
        WrittenFile(name=f"x/{name}.csv", url="", rows=1, bytes=size, sha256=name * 3, group=name)
        for name, size in (("b", 20), ("a", 10))
    ]
    assert report.index_rows(files, {"a": 5, "b": 6}) == [
        ("language", "repositories", "file", "bytes", "sha256"),
        ("a", 5, "x/a.csv", 10, "aaa"),
        ("b", 6, "x/b.csv", 20, "bbb"),
    ]


def test_an_index_of_nothing_is_its_header() -> None:
    assert report.index_rows([], {}) == [("language", "repositories", "file", "bytes", "sha256")]


# --- CSV --------------------------------------------------------------------------------------------------------------


def test_rows_end_in_crlf_and_no_byte_order_mark_begins_them() -> None:
    assert report.encode([("é", 1), ("a,b", 'say "hi"')]) == 'é,1\r\n"a,b","say ""hi"""\r\n'.encode()


@pytest.mark.parametrize(
    ("cell", "kept"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("\0=1", "'=1"),
        ("\ufeff=1", "'=1"),
        ("a\0b", "ab"),
        ("C++", "C++"),
        ("'quoted", "'quoted"),
        ("", ""),
    ],
)
def test_no_spreadsheet_runs_a_cell(cell: str, kept: str) -> None:
    assert read(report.encode([("first", cell)])) == [["first", kept]]
    assert read(report.encode([(cell, "last")])) == [[kept, "last"]]


def test_a_number_stays_a_number() -> None:
    assert report.encode([(12, 0)]) == b"12,0\r\n"


def test_half_a_surrogate_pair_does_not_stop_a_report() -> None:
    assert report.encode([("\ud83d!",)]) == b"?!\r\n"


#: Texts that are dense in what matters.
cells = st.text(st.sampled_from("=+-@\t\r\n\0\ufeff'\",; aé😀") | st.characters(codec="utf-8"))


@given(st.lists(st.lists(cells | st.integers(min_value=0), min_size=1), max_size=8))
def test_what_is_written_is_read_again_but_defused(rows: list[list[str | int]]) -> None:
    # When any rows are written and read again
    data = report.encode(rows)
    back = read(data)
    # Then all cells are there, and differ by the leading apostrophe and the dropped characters at most
    assert [len(row) for row in back] == [len(row) for row in rows]
    for cell, kept in zip(itertools.chain(*rows), itertools.chain(*back), strict=True):
        plain = str(cell).replace("\0", "").replace("\ufeff", "")
        assert kept in (plain, f"'{plain}") and not kept.startswith(tuple("=+-@\t\r\n\0\ufeff"))
    assert not data.startswith(b"\xef\xbb\xbf")


# --- File names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "name"),
    [
        ("Python", "Python.csv"),
        ("C", "C.csv"),
        ("C++", "C%2B%2B.csv"),
        ("C#", "C%23.csv"),
        ("Jupyter Notebook", "Jupyter%20Notebook.csv"),
        ("../x", "%2E.%2Fx.csv"),
        ("..", "%2E..csv"),
        (".", "%2E.csv"),
        ("%2E", "%252E.csv"),
        ("汉", "%E6%B1%89.csv"),
    ],
)
def test_a_language_has_a_contained_file_name(language: str, name: str) -> None:
    assert report.language_file_name(language) == name


languages = st.text(st.sampled_from("./\\%2E~-aC+#\0") | st.characters(codec="utf-8")) | st.text("é", min_size=60)


@given(languages, languages)
def test_two_languages_never_share_a_file_name(one: str, other: str) -> None:
    first, second = report.language_file_name(one), report.language_file_name(other)
    assert (first == second) == (one == other)
    assert "/" not in first and "\\" not in first and (not one or not first.startswith("."))
    assert len(first) <= 255 and first.isascii() and first.isprintable()


def test_long_languages_differ_in_their_ends_only() -> None:
    one, other = (report.language_file_name("x" * 500 + end) for end in "ab")
    assert one != other and len(one) <= 255
