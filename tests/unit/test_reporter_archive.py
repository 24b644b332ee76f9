"""Reports that are there already."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from services.reporter import archive
from services.reporter.question import csv_name, language_csv_name, manifest_name
from shared.signatures.reporter import Question, ReportResult, WrittenFile
from shared.storage import Storage

ASKED = Question(since=date(2026, 1, 1), ref_date=date(2026, 1, 8), period="week")
CONTENT = b"Rust,rust-lang/rust\r\n"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


@pytest.fixture
def kept(storage: Storage) -> ReportResult:
    """A report with two languages, each with a file of its own, that was written and kept."""
    return archive.keep(storage, written(storage, ASKED))


def written(storage: Storage, asked: Question) -> ReportResult:
    """The report's files, without the note that they are there."""
    files = [file(storage, language_csv_name(asked, language), language) for language in ("Go", "Rust")]
    own = file(storage, csv_name(asked), None)
    return ReportResult(
        **own.model_dump(),
        question=asked,
        repositories=3,
        languages={"Rust": 2, "Go": 1},
        seconds=1.5,
        files=files,
        warnings=["a page was incomplete"],
    )


def file(storage: Storage, name: str, group: str | None) -> WrittenFile:
    stored = storage.write(name, CONTENT)
    return WrittenFile(name=name, url=stored.url, rows=1, bytes=stored.bytes, sha256=stored.sha256, group=group)


def test_what_is_kept_is_found_and_says_that_it_was_there(storage: Storage, kept: ReportResult) -> None:
    # When the same is asked again
    found = archive.find(storage, ASKED.model_copy())
    # Then the answer is the same, but for what it says of itself
    assert found == kept.model_copy(update={"reused": True})
    assert not kept.reused


def test_keeping_gives_the_report_on(storage: Storage) -> None:
    report = written(storage, ASKED)
    assert archive.keep(storage, report) == report


def test_what_is_kept_is_plain_json_beside_the_report(storage: Storage, kept: ReportResult) -> None:
    manifest = json.loads(storage.read(manifest_name(ASKED)))
    assert manifest["question"] == {
        "since": "2026-01-01",
        "ref_date": "2026-01-08",
        "period": "week",
        "group_by": "language",
        "layout": "grouped",
        "per_language": False,
    }
    assert manifest["reused"] is False and manifest["name"] == kept.name == csv_name(ASKED)


@pytest.mark.parametrize(
    "changed",
    [
        {"ref_date": date(2026, 1, 9), "since": date(2026, 1, 2)},
        {"period": "day", "since": date(2026, 1, 7)},
        {"period": None, "since": date(2026, 1, 8)},
        {"group_by": "topic"},
        {"layout": "table"},
        {"per_language": True},
    ],
)
def test_another_question_has_no_answer_yet(storage: Storage, kept: ReportResult, changed: dict[str, object]) -> None:
    assert archive.find(storage, ASKED.model_copy(update=changed)) is None


def test_an_answer_to_another_question_under_this_name_is_none(storage: Storage, kept: ReportResult) -> None:
    # Given a note that was written when this name meant another beginning
    other = ASKED.model_copy(update={"since": date(2025, 12, 31)})
    assert manifest_name(other) == manifest_name(ASKED)
    archive.keep(storage, kept.model_copy(update={"question": other}))
    # Then it is not taken for the answer
    assert archive.find(storage, ASKED) is None


def test_a_report_whose_note_was_not_written_is_not_there(storage: Storage) -> None:
    # Given a worker that died after the files and before the note
    written(storage, ASKED)
    assert archive.find(storage, ASKED) is None


@pytest.mark.parametrize("which", [csv_name(ASKED), language_csv_name(ASKED, "Go"), language_csv_name(ASKED, "Rust")])
@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(CONTENT[:-1]),
        lambda path: path.write_bytes(CONTENT + b"x"),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["gone", "empty", "shorter", "longer", "a folder"],
)
def test_a_report_of_which_a_file_is_gone_or_changed_in_size_is_not_there(
    storage: Storage, kept: ReportResult, tmp_path: Path, which: str, harm: Callable[[Path], object]
) -> None:
    assert archive.find(storage, ASKED)
    harm(tmp_path / which)
    assert archive.find(storage, ASKED) is None


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b"{}", b"\xff\xfe", b'{"question": 5}'])
def test_a_broken_note_is_none(storage: Storage, kept: ReportResult, content: bytes) -> None:
    storage.write(manifest_name(ASKED), content)
    assert archive.find(storage, ASKED) is None


def test_a_note_of_a_newer_release_is_understood(storage: Storage, kept: ReportResult) -> None:
    manifest = json.loads(storage.read(manifest_name(ASKED)))
    storage.write(manifest_name(ASKED), json.dumps({**manifest, "stars": 5}).encode())
    assert archive.find(storage, ASKED) == kept.model_copy(update={"reused": True})


def test_a_refreshed_report_takes_the_place_of_the_old(storage: Storage, kept: ReportResult) -> None:
    archive.keep(storage, kept.model_copy(update={"seconds": 9.0}))
    found = archive.find(storage, ASKED)
    assert found and found.seconds == 9.0
