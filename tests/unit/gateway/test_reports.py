"""Reports: which are listed, how they are fetched, and that nothing else can be."""

import http.client
import json
import os
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import pytest

from services.gateway.catalogue import opaque
from shared.signatures.reporter import Question, ReportResult, WrittenFile
from shared.storage import Storage
from tests.serving import PATIENCE, Serve, Site, problem

CSV = b"Python,a/b,c/d\r\nRust,e/f\r\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "reports"


@pytest.fixture
def site(serve: Serve, folder: Path) -> Site:
    """A gateway over a folder of reports, which is not there yet."""
    return serve(reports_url=str(folder))


def written(storage: Storage, name: str, data: bytes, group: str | None = None) -> WrittenFile:
    stored = storage.write(name, data)
    return WrittenFile(name=name, url=stored.url, rows=2, bytes=stored.bytes, sha256=stored.sha256, group=group)


def keep(folder: Path, day: int, data: bytes = CSV, languages: tuple[str, ...] = (), at: float | None = None) -> str:
    """Keep a report of that day as the reporter does; gives the name of its file."""
    storage, stem = Storage(str(folder)), f"week/language/grouped/github-hot-repos-2026-11-{day:02}"
    question = Question(since="2026-11-01", ref_date=f"2026-11-{day:02}", period="week")  # type: ignore[arg-type]
    files = [written(storage, f"{stem}/{language}.csv", b"x", language) for language in languages]
    own = written(storage, f"{stem}.csv", data)
    result = ReportResult(
        **own.model_dump(),
        question=question,
        repositories=3,
        languages={"Python": 2, "Rust": 1},
        seconds=1.5,
        files=files,
    )
    storage.write(f"{stem}.json", result.model_dump_json().encode())
    if at is not None:
        os.utime(folder / f"{stem}.json", (at, at))
    return own.name


def days(site: Site, path: str = "/reports") -> list[int]:
    """The days of the listed reports."""
    return [int(report["question"]["ref_date"][-2:]) for report in site.get(path).json()["reports"]]


# --- The list ---------------------------------------------------------------------------------------------------------


def test_without_a_report_the_list_is_empty(site: Site) -> None:
    assert site.get("/reports").json() == {"reports": [], "total": 0}


def test_the_last_written_report_comes_first(site: Site, folder: Path) -> None:
    for day, at in ((3, 300.0), (9, 100.0), (5, 200.0)):
        keep(folder, day, at=at)
    assert days(site) == [3, 5, 9]
    # And one that is written again moves to the front
    keep(folder, 9, at=400.0)
    assert days(site) == [9, 3, 5]


def test_a_listed_report_says_what_is_in_it(site: Site, folder: Path) -> None:
    name = keep(folder, 7, languages=("Python",), at=1_700_000_000)
    (report,) = site.get("/reports").json()["reports"]
    assert report["name"] == opaque(name) and report["url"] == f"/reports/{opaque(name)}"
    assert report["file_name"] == "week-language-grouped-github-hot-repos-2026-11-07.csv"
    assert report["bytes"] == len(CSV) and report["sha256"] == sha256(CSV).hexdigest()
    assert report["languages"] == {"Python": 2, "Rust": 1} and report["repositories"] == 3
    assert report["written"] == "2023-11-14T22:13:20Z"
    assert [file["group"] for file in report["files"]] == ["Python"]
    # And where it lies is nobody's business
    assert str(folder) not in json.dumps(report) and "week/" not in json.dumps(report)


def test_the_list_comes_in_parts(site: Site, folder: Path) -> None:
    for day in range(1, 8):
        keep(folder, day, at=day)
    # When it is read in parts, each naming the next
    seen, path = [], "/reports?limit=3"
    while path:
        page = site.get(path).json()
        assert page["total"] == 7
        seen.append(days(site, path))
        path = page.get("next")
    # Then all reports come once
    assert seen == [[7, 6, 5], [4, 3, 2], [1]]


@pytest.mark.parametrize(
    ("query", "field"), [("limit=0", "limit"), ("limit=101", "limit"), ("offset=-1", "offset"), ("limit=a", "limit")]
)
def test_a_wrong_part_is_refused_by_its_name(site: Site, query: str, field: str) -> None:
    assert problem(site.get(f"/reports?{query}"), 422, "invalid-request")["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder, stem: (folder / f"{stem}.csv").unlink(),
        lambda folder, stem: (folder / f"{stem}.json").write_text("{"),
        lambda folder, stem: (folder / f"{stem}.json").write_text("{}"),
        lambda folder, stem: (folder / f"{stem}.json").rename(folder / f"{stem}-2.json"),
        lambda folder, stem: (folder / f"{stem}.json").rename(folder / stem.replace("github", ".github")),
    ],
)
def test_what_is_no_whole_report_is_not_listed(site: Site, folder: Path, harm: object) -> None:
    # Given a good report, and one that something happened to
    keep(folder, 1)
    keep(folder, 2)
    harm(folder, "week/language/grouped/github-hot-repos-2026-11-02")  # type: ignore[operator]
    # Then the good one alone is there
    assert days(site) == [1]
    assert site.get(f"/reports/{opaque('week/language/grouped/github-hot-repos-2026-11-02.csv')}").status_code == 404


def test_a_report_that_is_being_written_is_not_listed(site: Site, folder: Path) -> None:
    keep(folder, 1)
    manifest = folder / "week/language/grouped/github-hot-repos-2026-11-01.json"
    manifest.rename(manifest.with_name(".5f3a.tmp"))
    assert days(site) == []


# --- Fetching ---------------------------------------------------------------------------------------------------------


def test_a_report_is_fetched_as_a_file_to_keep(site: Site, folder: Path) -> None:
    name = opaque(keep(folder, 7))
    answer = site.get(f"/reports/{name}")
    assert (answer.status_code, answer.content) == (200, CSV)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith(
        'attachment; filename="week-language-grouped-github-hot-repos-2026-11-07.csv"'
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["accept-ranges"] == "bytes"


def test_a_languages_file_is_fetched_by_a_name_of_its_own(site: Site, folder: Path) -> None:
    keep(folder, 7, languages=("C%2B%2B", "Ünï"))
    (report,) = site.get("/reports").json()["reports"]
    for file in report["files"]:
        answer = site.get(file["url"])
        assert answer.content == b"x"
        # Whole in the form for those who know it, in ASCII for all others: RFC 6266
        assert answer.headers["content-disposition"].endswith(f"filename*=UTF-8''{quote(file['file_name'], safe='')}")
        assert answer.headers["content-disposition"].isascii()


def test_head_says_the_same_without_the_content(site: Site, folder: Path) -> None:
    name = opaque(keep(folder, 7))
    answer = site.head(f"/reports/{name}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(CSV))


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-3", 206, CSV[0:4]),
        ("bytes=5-", 206, CSV[5:]),
        ("bytes=-6", 206, CSV[-6:]),
        ("bytes=0-99999", 206, CSV),
        ("bytes=-99999", 206, CSV),
        (f"bytes={len(CSV) - 1}-", 206, CSV[-1:]),
        (f"bytes={len(CSV)}-", 416, b""),
        ("bytes=-0", 416, b""),
        # Not understood, and so ignored: RFC 9110, 14.2
        ("bytes=3-1", 200, CSV),
        ("bytes=0-1,4-5", 200, CSV),
        ("lines=0-1", 200, CSV),
        ("bytes=", 200, CSV),
        ("bytes=a-b", 200, CSV),
    ],
)
def test_a_part_is_given_where_one_is_asked_for(
    site: Site, folder: Path, wanted: str, status: int, part: bytes
) -> None:
    name = opaque(keep(folder, 7))
    answer = site.get(f"/reports/{name}", headers={"Range": wanted})
    assert (answer.status_code, answer.content) == (status, part)
    if status == 206:
        start = CSV.rindex(part)
        assert answer.headers["content-range"] == f"bytes {start}-{start + len(part) - 1}/{len(CSV)}"
    if status == 416:
        assert answer.headers["content-range"] == f"bytes */{len(CSV)}"


def test_a_reader_that_has_the_report_already_is_told_so(site: Site, folder: Path) -> None:
    # Given a reader that keeps a report
    path = f"/reports/{opaque(keep(folder, 7))}"
    tag = site.get(path).headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = site.get(path, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
    # When it is made anew, with another content
    keep(folder, 7, b"Go,g/h\r\n")
    # Then the reader gets it; and a part of the old one is not mended with one of the new
    assert site.get(path, headers={"If-None-Match": tag}).content == b"Go,g/h\r\n"
    assert site.get(path, headers={"Range": "bytes=0-1", "If-Range": tag}).status_code == 200
    fresh = site.get(path).headers["etag"]
    assert site.get(path, headers={"Range": "bytes=0-1", "If-Range": fresh}).content == b"Go"


# --- Nothing else -----------------------------------------------------------------------------------------------------

SECRET = b"root:x:0:0"
UPS = ("..", "%2e%2e", "..%2f", "%2e%2e%2f", "..%5c", "..%c0%af", "..%252f", "%252e%252e%252f", "..;", "....//")
TARGETS = ("secret.csv", "%2fsecret.csv", "secret.csv%00.csv", "secret.csv%0a", "secret.csv?x=.csv", "secret.csv;.csv")
TRAVERSALS = [
    *(f"{up}/{target}" for up in UPS for target in TARGETS),
    *(f"{up}{up}{up}{up}etc/passwd" for up in ("../", "%2e%2e/", "..%2f", "%2e%2e%2f", "..\\", "..%5c", "..%252f")),
    "/etc/passwd",
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "file:///etc/passwd",
    "file:%2f%2f%2fetc%2fpasswd",
    "C:%5cwindows%5cwin.ini",
    "%5c%5chost%5cshare",
    "week/language/grouped/github-hot-repos-2026-11-07.csv",
    "week%2flanguage%2fgrouped%2fgithub-hot-repos-2026-11-07.csv",
    "week%2flanguage%2fgrouped%2fgithub-hot-repos-2026-11-07.json",
    "github-hot-repos-2026-11-07.csv",
    "link.csv",
    "linked%2fsecret.csv",
    ".",
    "%2e",
    "~root",
    "-",
    "*",
    "%00",
    "con",
    "0" * 32,
    "a" * 5000,
    "%f0%9f%92%a9",
    "%ff%fe",
]


def asked_as_it_stands(site: Site, target: str) -> tuple[int, bytes]:
    """Status and content of the answer to a target that no client has tidied up."""
    connection = http.client.HTTPConnection(site.url.removeprefix("http://"), timeout=PATIENCE)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("attempt", TRAVERSALS)
def test_no_name_leads_to_anything_but_a_report(site: Site, folder: Path, attempt: str) -> None:
    # Given a report, something secret beside the reports, and links to it among them
    keep(folder, 7)
    (folder.parent / "secret.csv").write_bytes(SECRET)
    (folder / "link.csv").symlink_to(folder.parent / "secret.csv")
    (folder / "linked").symlink_to(folder.parent)
    # When that is asked for, letter by letter, without a client that tidies the path up
    status, content = asked_as_it_stands(site, f"/reports/{attempt}")
    # Then there is no such report, and nobody learns more
    assert status == 404, content
    assert SECRET not in content and b"a/b" not in content
    assert str(folder.parent).encode() not in content


def test_there_are_attempts_enough() -> None:
    assert len(set(TRAVERSALS)) >= 50


def test_a_report_that_is_a_link_out_of_the_folder_is_not_given(site: Site, folder: Path) -> None:
    # Given a report whose file was replaced by a link to something secret of the same size
    name = keep(folder, 7)
    secret = folder.parent / "secret.csv"
    secret.write_bytes(bytes(len(CSV)))
    (folder / name).unlink()
    (folder / name).symlink_to(secret)
    # Then it is not there any more
    assert site.get(f"/reports/{opaque(name)}").status_code == 404
    assert days(site) == []


def test_a_manifest_speaks_for_its_own_files_alone(site: Site, folder: Path) -> None:
    # Given a manifest that claims another report's file, and one out of the folder, for its own
    keep(folder, 7)
    manifest = folder / "week/language/grouped/github-hot-repos-2026-11-07.json"
    claims = json.loads(manifest.read_text())
    (folder.parent / "secret.csv").write_bytes(SECRET)
    for claimed in ("../secret.csv", "/etc/passwd", "other.csv"):
        forged = {**claims, "files": [{**written(Storage(str(folder)), "a.csv", b"x").model_dump(), "name": claimed}]}
        manifest.write_text(json.dumps(forged))
        # Then that report is none
        assert days(site) == []
        assert site.get(f"/reports/{opaque(claimed)}").status_code == 404


def test_reports_in_another_kind_of_storage_are_served_too(serve: Serve) -> None:
    # Given reports in a storage that is no folder
    import fsspec

    name = "week/language/grouped/github-hot-repos-2026-11-07.csv"
    storage = Storage("memory://gateway-reports")
    own = written(storage, name, CSV)
    result = ReportResult(
        **own.model_dump(),
        question=Question(since="2026-11-01", ref_date="2026-11-07", period="week"),  # type: ignore[arg-type]
        repositories=3,
        languages={},
        seconds=1,
    )
    storage.write(name.replace(".csv", ".json"), result.model_dump_json().encode())
    try:
        site = serve(reports_url="memory://gateway-reports")
        (report,) = site.get("/reports").json()["reports"]
        assert report["written"] and site.get(report["url"]).content == CSV
    finally:
        fsspec.filesystem("memory").store.clear()


def test_a_storage_that_cannot_be_read_is_told_as_such(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OSError("no")

    monkeypatch.setattr(site.app.state.house.catalogue._storage, "listing", away)
    for path in ("/reports", f"/reports/{'0' * 32}"):
        problem(site.get(path), 503, "reports-away")
