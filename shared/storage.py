"""Files under `REPORTS_URL`: written whole or not at all."""

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from shared.errors import ConfigError
from shared.file_names import LONGEST_NAME, LONGEST_SEGMENT, BadName, check

#: Of an object store. Else its library waits a minute for a connection, and as long for each answer.
_TIMEOUTS = {"connect_timeout": 3, "read_timeout": 20, "retries": {"max_attempts": 1}}

__all__ = ["LONGEST_NAME", "LONGEST_SEGMENT", "BadName", "Storage", "StoredFile"]


@dataclass(frozen=True)
class StoredFile:
    """A file that was written whole.

    Attributes:
        name: relative to the storage.
        url: absolute; `fsspec.open(url)` reads it.
        bytes: its size.
        sha256: of its content, in hexadecimal.
    """

    name: str
    url: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """A file as a listing shows it.

    Attributes:
        bytes: its size.
        modified: when it was written, in seconds since the epoch; 0 where its file system does not tell.
    """

    bytes: int
    modified: float


class Storage:
    """A folder of files, on this machine or in an object store.

    A reader finds a file whole, as it was before or as it is now, never in between, even when the writer is killed.
    A file's name is a relative POSIX path; every method raises `BadName` for one that is not well formed, or that
    leads out of the folder through a symbolic link.

    Args:
        url: any fsspec URL (`s3://bucket/reports`), `file://`, or a path; a relative one counts from the folder where
            the process stands now.

    Raises:
        ConfigError: nothing here can open such a URL.
    """

    def __init__(self, url: str) -> None:
        if not url.strip():
            raise ConfigError("REPORTS_URL is empty: give a folder, or a URL such as s3://bucket/reports")
        # Only its scheme goes into a message: a URL may hold credentials.
        scheme = url.partition("://")[0]
        try:
            file_system, root = self._open(url)
        except ImportError as error:
            raise ConfigError(f"REPORTS_URL: {scheme}:// needs a library that is missing: {error}") from error
        except ValueError:
            raise ConfigError(f"REPORTS_URL: fsspec knows no {scheme}://; give a folder, or s3://bucket/…") from None
        self._url = url
        self._root: str = root.rstrip("/")
        self._folder = Path(root) if isinstance(file_system, LocalFileSystem) else None

    def write(self, name: str, data: bytes) -> StoredFile:
        """Store `data` under `name`, in place of what was there; folders are made as needed.

        Raises:
            BadName: see the class.
            OSError: it could not be stored; what was there is still there.
        """
        if path := self._path(name):
            _publish(path, data)
        else:
            # An object store shows a put only when all of it has arrived, and knows no folders that could be missing.
            with _reached():
                self._files.pipe_file(self._key(name), data)
        return StoredFile(name, self.url_of(name), len(data), hashlib.sha256(data).hexdigest())

    def read(self, name: str) -> bytes:
        """The whole content of `name`.

        Raises:
            BadName: see the class.
            FileNotFoundError: there is no such file; a folder is none.
            OSError: the storage cannot be reached.
        """
        path = self._path(name)
        if path is None:
            with _reached():
                content: bytes = self._files.cat_file(self._key(name))
            return content
        try:
            return path.read_bytes()
        except (IsADirectoryError, NotADirectoryError) as error:
            raise FileNotFoundError(errno.ENOENT, "No such file", name) from error

    def exists(self, name: str) -> bool:
        """Whether `name` is a file. Raises as `size`."""
        return self.size(name) is not None

    def size(self, name: str) -> int | None:
        """Bytes, or None where `name` is no file. Raises BadName, and OSError where the storage cannot be reached."""
        if path := self._path(name):
            return _size(path)
        try:
            with _reached():
                known = self._files.info(self._key(name))
        except FileNotFoundError:
            return None
        return int(known["size"]) if known["type"] == "file" else None

    def listing(self) -> dict[str, Entry]:
        """Every file by its name. Hidden ones are left out: a file that is being written has such a name.

        Raises:
            OSError: the storage cannot be listed. One that nobody has written to yet is empty.
        """
        found = _walk(self._folder) if self._folder is not None else self._find()
        return {name: entry for name, entry in found if not any(part.startswith(".") for part in name.split("/"))}

    def url_of(self, name: str) -> str:
        """Where `name` is, or would be, as an absolute fsspec URL. Raises BadName."""
        return str(self._files.unstrip_protocol(self._key(name)))

    def _find(self) -> Iterator[tuple[str, Entry]]:
        try:
            with _reached():
                known = self._files.find(self._root, detail=True)
        except FileNotFoundError:
            return
        for path, info in known.items():
            yield str(path)[len(self._root) :].lstrip("/"), Entry(int(info["size"] or 0), _modified(info))

    @staticmethod
    def _open(url: str) -> tuple[Any, str]:
        # Other processes write here too, so a listing must not be remembered.
        options = {"config_kwargs": _TIMEOUTS} if url.startswith("s3://") else {}
        file_system, root = url_to_fs(url, use_listings_cache=False, **options)
        return file_system, str(root)

    @property
    def _files(self) -> Any:
        # Asked for at each use: an asynchronous file system must not be carried over a fork or into another thread, and
        # fsspec keeps one for each process and thread.
        return self._open(self._url)[0]

    def _key(self, name: str) -> str:
        check(name)
        return f"{self._root}/{name}"

    def _path(self, name: str) -> Path | None:
        """The file on this machine with every link followed, or None where the files are elsewhere."""
        key = self._key(name)
        if self._folder is None:
            return None
        path = Path(os.path.realpath(key))
        if not path.is_relative_to(os.path.realpath(self._folder)):
            raise BadName(f"{name!r:.200} leads out of the storage through a link: remove the link")
        return path


@contextmanager
def _reached() -> Iterator[None]:
    """Each file system of fsspec fails in its library's own way: here all of them fail as a disk does.

    Raises:
        OSError: what is done inside failed, for whatever reason.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(errno.EIO, f"the storage of REPORTS_URL failed: {type(error).__name__}: {error}") from error


def _publish(path: Path, data: bytes) -> None:
    """Write the file under another name, then give it its own in one step."""
    _make_folder(path.parent)
    # In the same folder, because a rename is atomic only within a file system. Opened plainly, not by `tempfile`, which
    # would make the file unreadable to whoever serves it under another user.
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            # Before the rename, or a power cut leaves the new name with an empty file.
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _make_folder(folder: Path) -> None:
    """As `mkdir -p`, and each new folder survives a power cut."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Write the folder's entries to the disk, so that a power cut does not undo a rename."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some shared folders of desktop virtual machines cannot; there is nothing more to be done then.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _walk(folder: Path) -> Iterator[tuple[str, Entry]]:
    """Regular files below `folder`, without following a link out of it."""
    for parent, folders, files in os.walk(folder, onerror=_raise_unless_missing):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(parent, name)
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue  # removed, or renamed, since its folder was read
            if stat.S_ISREG(status.st_mode):
                yield path.relative_to(folder).as_posix(), Entry(status.st_size, status.st_mtime)


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _modified(info: Mapping[str, Any]) -> float:
    # Each file system of fsspec has its own word for it.
    for key in ("LastModified", "last_modified", "mtime", "updated", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return 0.0


def _size(path: Path) -> int | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
