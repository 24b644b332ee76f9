"""Reports in an object store, through a server that speaks S3."""

import asyncio
import multiprocessing
import socket
from datetime import date
from typing import Any

import pytest
import s3fs

from services.gateway.catalogue import Catalogue
from services.reporter import archive
from services.reporter.question import csv_name
from shared.signatures.reporter import Question, ReportResult, WrittenFile
from shared.storage import Storage

ASKED = Question(since=date(2026, 1, 1), ref_date=date(2026, 1, 8), period="week")
CONTENT = b"Rust,rust-lang/rust\r\n"


def produce(url: str) -> None:
    """What a reporter's process does at the end of a report."""
    storage = Storage(url)
    stored = storage.write(csv_name(ASKED), CONTENT)
    own = WrittenFile(name=csv_name(ASKED), url=stored.url, rows=1, bytes=stored.bytes, sha256=stored.sha256)
    archive.keep(
        storage,
        ReportResult(**own.model_dump(), question=ASKED, repositories=1, languages={"Rust": 1}, seconds=1.5, files=[]),
    )


def test_a_report_that_one_pod_writes_is_listed_and_read_by_another(bucket: str) -> None:
    # Given a reporter's pool, whose parent has spoken to the store before it forked, as a worker may
    storage = Storage(bucket)
    assert storage.listing() == {}
    child = multiprocessing.get_context("fork").Process(target=produce, args=(bucket,))
    child.start()
    child.join(60)
    assert child.exitcode == 0

    # When the gateway lists what is there
    (report,) = asyncio.run(Catalogue(storage).reports())

    # Then it is the report, and its file is whole
    assert report.question == ASKED and report.written is not None
    found = asyncio.run(Catalogue(storage).read(report.name))
    assert found is not None and found[1] == CONTENT
    # And the reporter does not make it again
    kept = archive.find(storage, ASKED)
    assert kept is not None and kept.reused and kept.url.startswith("s3://")


@pytest.mark.parametrize(
    "use",
    [
        lambda storage: storage.write("week/report.csv", CONTENT),
        lambda storage: storage.read("week/report.csv"),
        lambda storage: storage.size("week/report.csv"),
        lambda storage: storage.listing(),
    ],
    ids=["write", "read", "size", "list"],
)
def test_a_store_that_is_away_fails_as_a_disk_does(bucket: str, monkeypatch: pytest.MonkeyPatch, use: Any) -> None:
    # Given a store that nobody answers for: tasks try again after an OSError, and the gateway says "away"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        # The library keeps an open store by its arguments: without this it would be the one of before.
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(OSError, match=r"the storage of REPORTS_URL failed: EndpointConnectionError"):
            use(Storage(bucket))


def test_a_bucket_that_is_missing_says_so(bucket: str) -> None:
    with pytest.raises(FileNotFoundError, match="bucket"):
        Storage("s3://no-such-bucket/reports").write("report.csv", CONTENT)
