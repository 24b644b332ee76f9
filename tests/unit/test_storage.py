"""Files that are there whole or not at all, on this machine and in an object store."""

import hashlib
import os
import pickle
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigError, Final
from shared.storage import BadName, Storage

NAME = "week/language/grouped/github-hot-repos-2026-11-20.csv"


@pytest.fixture(params=["path", "file", "memory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """One of each kind, empty, in a folder that is not there yet."""
    places = {"path": f"{tmp_path}/reports", "file": f"file://{tmp_path}/reports/", "memory": "memory://reports"}
    if request.param == "s3":
        places["s3"] = request.getfixturevalue("bucket")
    yield Storage(places[request.param])
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "reports"


@pytest.fixture
def local(folder: Path) -> Storage:
    return Storage(str(folder))


def files_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- Writing and reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"Rust,rust-lang/rust\r\n", bytes(range(256)) * 9999])
def test_what_is_written_is_read(storage: Storage, data: bytes) -> None:
    # When a file is written
    stored = storage.write(NAME, data)
    # Then it is there, and described
    assert storage.read(NAME) == data
    assert storage.exists(NAME) and storage.size(NAME) == len(data)
    assert (stored.name, stored.bytes, stored.sha256) == (NAME, len(data), hashlib.sha256(data).hexdigest())


def test_the_url_leads_to_the_file_from_anywhere(storage: Storage) -> None:
    # Given a name with characters that mean something in a URL
    name = "languages/C%2B%2B of 2026#1.csv"
    stored = storage.write(name, b"here")
    # Then fsspec finds the file by its URL alone
    assert "://" in stored.url and storage.url_of(name) == stored.url
    with fsspec.open(stored.url) as file:
        assert file.read() == b"here"


def test_a_second_write_replaces_the_first(storage: Storage) -> None:
    storage.write(NAME, b"a long first content")
    storage.write(NAME, b"second")
    assert storage.read(NAME) == b"second" and storage.size(NAME) == 6


@pytest.mark.parametrize("missing", ["missing.csv", "week", "week/language", "week/none.csv", f"{NAME}/below"])
def test_a_file_that_is_missing_says_so(storage: Storage, missing: str) -> None:
    # Given a storage with one file, deep in it
    storage.write(NAME, b"here")
    # Then neither its folders nor other names are files
    assert not storage.exists(missing) and storage.size(missing) is None
    with pytest.raises(FileNotFoundError):
        storage.read(missing)


def test_an_empty_storage_has_no_files(storage: Storage) -> None:
    assert not storage.exists(NAME)
    with pytest.raises(FileNotFoundError):
        storage.read(NAME)


def test_a_relative_folder_counts_from_where_the_process_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a storage in a relative folder
    monkeypatch.chdir(tmp_path)
    storage = Storage("reports")
    storage.write(NAME, b"here")
    # When the process moves on
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    # Then the storage stays
    assert storage.read(NAME) == b"here" == (tmp_path / "reports" / NAME).read_bytes()
    assert storage.url_of(NAME) == f"file://{tmp_path}/reports/{NAME}"


def test_another_user_may_read_what_the_mask_allows(local: Storage, folder: Path) -> None:
    before = os.umask(0o022)
    try:
        local.write("a.csv", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "a.csv").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("url", "complaint"),
    [("", "empty"), (" ", "empty"), ("nosuch://user:secret@bucket", "nosuch://"), ("ftps3://x", "ftps3://")],
)
def test_a_place_that_cannot_be_opened_is_a_mistake_of_configuration(url: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=f"REPORTS_URL.*{complaint}") as caught:
        Storage(url)
    assert "secret" not in str(caught.value)


# --- Names ------------------------------------------------------------------------------------------------------------

BAD_NAMES = [
    "",
    "/etc/passwd",
    "../outside.csv",
    "week/../../outside.csv",
    "..",
    ".",
    "./a.csv",
    "week//a.csv",
    "week/",
    "week\\a.csv",
    "a\0.csv",
    "a\n.csv",
    "a\x7f.csv",
    "a\u202ecsv.exe",
    "\ud800.csv",
    "x" * 256,
    "é" * 128,
    "x/" * 256 + "x",
]


@pytest.mark.parametrize("method", ["read", "exists", "size", "url_of", "write"])
@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_a_bad_name_is_refused_by_every_method(storage: Storage, name: str, method: str) -> None:
    arguments = (name, b"") if method == "write" else (name,)
    with pytest.raises(BadName) as caught:
        getattr(storage, method)(*arguments)
    assert f"{name!r:.200}" in str(caught.value)


@pytest.mark.parametrize("name", ["a", "x" * 255, "x/" * 255 + "xx", "..a/b..csv", ".csv", "a b/C%2B%2B.csv", "~/é"])
def test_a_good_name_is_taken(storage: Storage, name: str) -> None:
    storage.write(name, b"here")
    assert storage.read(name) == b"here"


@given(st.text(st.sampled_from("./\\ab\0\n~") | st.characters(codec="utf-8"), max_size=20))
def test_any_name_is_refused_or_contained(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    # Given an empty storage
    place = tmp_path_factory.mktemp("any")
    try:
        # When any name at all is written
        Storage(f"{place}/reports").write(name, b"")
    except BadName:
        # Then it is refused and nothing was written
        assert files_under(place) == []
    else:
        # Or it is where its name says
        assert files_under(place / "reports") == [name] and len(files_under(place)) == 1


def test_a_bad_name_is_final_and_travels() -> None:
    error = BadName("The file name 'x' is odd")
    assert isinstance(error, Final) and isinstance(error, ValueError)
    for copy in (BadName(*error.args), pickle.loads(pickle.dumps(error))):
        assert type(copy) is BadName and str(copy) == str(error)


@pytest.mark.parametrize("name", ["out/secret.csv", "file.csv"])
def test_a_link_does_not_lead_out(local: Storage, folder: Path, tmp_path: Path, name: str) -> None:
    # Given links from the storage to a folder and a file outside, one of a like name
    outside = tmp_path / "reports-private"
    outside.mkdir()
    (outside / "secret.csv").write_bytes(b"secret")
    folder.mkdir()
    (folder / "out").symlink_to(outside)
    (folder / "file.csv").symlink_to(outside / "secret.csv")
    # Then nothing is read or written through them
    for use in (local.read, local.exists, local.size, lambda name: local.write(name, b"mine")):
        with pytest.raises(BadName, match="link"):
            use(name)
    assert (outside / "secret.csv").read_bytes() == b"secret"


def test_the_storage_itself_may_be_a_link(local: Storage, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    folder.symlink_to(tmp_path / "disk")
    local.write(NAME, b"here")
    assert local.read(NAME) == b"here" == (tmp_path / "disk" / NAME).read_bytes()


# --- Whole or not at all ----------------------------------------------------------------------------------------------


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The system refuses to write more than `size` bytes to a file, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("before", [None, b"as it was"])
def test_a_write_that_fails_leaves_nothing_behind(local: Storage, folder: Path, before: bytes | None) -> None:
    # Given a storage that may or may not have the file
    if before is not None:
        local.write("a.csv", before)
    # When a write breaks off in the middle
    with largest_file(4096), pytest.raises(OSError, match="too large"):
        local.write("a.csv", b"x" * 10_000)
    # Then the file is as it was, and nothing else is there
    assert {name: (folder / name).read_bytes() for name in files_under(folder)} == (
        {} if before is None else {"a.csv": before}
    )


def test_a_folder_that_cannot_be_written_says_so(local: Storage, folder: Path) -> None:
    # Given a file where the storage should be
    folder.write_bytes(b"")
    # Then no write pretends to have worked
    with pytest.raises(OSError):
        local.write("a.csv", b"")
    with pytest.raises(OSError):
        local.write(NAME, b"")


def test_a_folder_under_the_files_name_stays(local: Storage, folder: Path) -> None:
    (folder / "a.csv").mkdir(parents=True)
    with pytest.raises(OSError):
        local.write("a.csv", b"mine")
    assert list(folder.iterdir()) == [folder / "a.csv"]


WRITER = """
import os, sys, time
from shared.storage import Storage

def fall_silent(descriptor):
    print(os.fstat(descriptor).st_size, flush=True)
    time.sleep(60)

os.fsync = fall_silent  # the first comes when the bytes are written, and not yet published
Storage(sys.argv[1]).write("a.csv", b"new" * 1_000_000)
"""


@pytest.mark.parametrize("before", [None, b"as it was"])
def test_a_writer_that_is_killed_leaves_no_half_file(local: Storage, folder: Path, before: bytes | None) -> None:
    # Given a storage that may or may not have the file
    folder.mkdir()
    if before is not None:
        local.write("a.csv", before)
    # When its writer is killed in the middle
    root = str(Path(__file__).parents[2])
    with subprocess.Popen([sys.executable, "-c", WRITER, folder], stdout=subprocess.PIPE, cwd=root) as writer:
        assert writer.stdout and writer.stdout.readline() == b"3000000\n"
        writer.send_signal(signal.SIGKILL)
    # Then a reader sees what was there before, and the next writer is not hindered
    assert local.exists("a.csv") == (before is not None)
    if before is not None:
        assert local.read("a.csv") == before
    local.write("a.csv", b"newer")
    assert local.read("a.csv") == b"newer"


def test_file_and_folders_are_on_the_disk_before_anyone_is_told(
    local: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a look at what is written through to the disk, and whether the file could be seen by then
    synced: list[tuple[os.stat_result, bool]] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append((os.fstat(descriptor), (folder / "week/a.csv").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    # When a file is written into a new folder
    local.write("week/a.csv", b"here")
    # Then the new folders were written through, then the content before it was published, then its publication
    expected = [(folder.parent, False), (folder, False), (folder / "week/a.csv", False), (folder / "week", True)]
    assert [(status.st_ino, seen) for status, seen in synced] == [(path.stat().st_ino, seen) for path, seen in expected]


def test_readers_and_writers_at_once_see_whole_files_only(local: Storage) -> None:
    # Given two contents that writers put in turn
    contents = [bytes([letter]) * 100_000 for letter in b"ab"]
    local.write(NAME, contents[0])
    with ThreadPoolExecutor(8) as threads:
        # When many write and read at once
        writes = [threads.submit(local.write, NAME, contents[turn % 2]) for turn in range(40)]
        reads = [threads.submit(local.read, NAME) for _ in range(200)]
    # Then no reader ever sees a mixture
    assert all(write.result().bytes == 100_000 for write in writes)
    assert {read.result() for read in reads} <= set(contents)


# --- Listing ----------------------------------------------------------------------------------------------------------


def test_an_empty_storage_lists_nothing(storage: Storage) -> None:
    assert storage.listing() == {}


def test_every_file_is_listed_by_its_name_with_size_and_time(storage: Storage) -> None:
    before = time.time()
    for name, data in ((NAME, b"abc"), ("a.json", b""), ("a/b/c", b"x")):
        storage.write(name, data)
    listed = storage.listing()
    assert {name: entry.bytes for name, entry in listed.items()} == {NAME: 3, "a.json": 0, "a/b/c": 1}
    assert all(before - 2 < entry.modified < time.time() + 2 for entry in listed.values())


def test_what_is_hidden_is_not_listed(local: Storage, folder: Path) -> None:
    # Given a file that is being written, and a hidden folder
    local.write("a/b", b"x")
    (folder / "a" / ".5f3a.tmp").write_bytes(b"half")
    (folder / ".snapshots").mkdir()
    (folder / ".snapshots" / "c").write_bytes(b"x")
    assert local.listing().keys() == {"a/b"}


def test_no_link_is_followed_out_of_the_storage(local: Storage, folder: Path, tmp_path: Path) -> None:
    local.write("a/b", b"x")
    (tmp_path / "secret").write_bytes(b"x")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "out").symlink_to(tmp_path)
    assert local.listing().keys() == {"a/b"}


def test_a_folder_that_is_none_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        Storage(str(tmp_path / "file")).listing()
