"""The reports that are there, each under a name that says nothing of where it lies.

Whoever asks for a report gives such a name, and it is only ever compared with those of known reports: no path is made
from what came from outside.
"""

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from shared.signatures.reporter import Question, ReportResult, WrittenFile
from shared.storage import Entry, Storage

_CSV, _MANIFEST = ".csv", ".json"

T = TypeVar("T")


class File(BaseModel):
    """A file that can be fetched.

    Attributes:
        name: opaque.
        file_name: under which a browser keeps it.
        group: the language that it is about, where each has a file.
    """

    name: str
    file_name: str
    url: str
    rows: int
    bytes: int
    sha256: str
    group: str | None = None

    @classmethod
    def of(cls, file: WrittenFile) -> "File":
        """`file` as the outside sees it."""
        name = opaque(file.name)
        return cls(**{**file.model_dump(), "name": name, "file_name": plain(file.name), "url": f"/reports/{name}"})


class Report(File):
    """A report: its own file, what it answers, and what is in it."""

    question: Question
    repositories: int
    languages: dict[str, int]
    seconds: float
    files: list[File] = []
    warnings: list[str] = []
    reused: bool = False
    written: datetime | None = None

    @classmethod
    def of(cls, result: WrittenFile, written: float | None = None) -> "Report":
        """`result`, a ReportResult, as the outside sees it."""
        assert isinstance(result, ReportResult)
        own = File.of(result).model_dump()
        rest = result.model_dump(exclude=set(WrittenFile.model_fields) | {"files"})
        when = None if written is None else datetime.fromtimestamp(written, UTC)
        return cls(**own, **rest, files=[File.of(file) for file in result.files], written=when)


def opaque(stored: str) -> str:
    """The name under which the outside knows a stored file: always the same, and no way back."""
    return hashlib.sha256(f"report:{stored}".encode()).hexdigest()[:32]


def plain(stored: str) -> str:
    """A name for the reader's own folder: `week-language-grouped-github-hot-repos-2026-11-20.csv`."""
    return stored.replace("/", "-")


class Catalogue:
    """What is known of the reports in a storage, read again only where it has changed."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._kept: dict[str, tuple[Entry, ReportResult | None]] = {}
        # One thread: listings do not run beside each other, and what they keep needs no lock.
        self._thread = ThreadPoolExecutor(1, "catalogue")

    async def reports(self) -> list[Report]:
        """Every report whose files are there, the last written first. Raises OSError."""
        return await self._run(self._reports)

    async def read(self, name: str) -> tuple[str, bytes] | None:
        """The stored name and the content of the file that the outside calls `name`; None where there is none."""
        return await self._run(self._read, name)

    def close(self) -> None:
        """Begin nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[..., T], *arguments: str) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _reports(self) -> list[Report]:
        known = self._known()
        newest = sorted(known, key=lambda one: (-one[0].modified, one[1].name))
        return [Report.of(result, entry.modified) for entry, result in newest]

    def _read(self, name: str) -> tuple[str, bytes] | None:
        for _, result in self._known():
            for file in (result, *result.files):
                if opaque(file.name) == name:
                    try:
                        return file.name, self._storage.read(file.name)
                    except FileNotFoundError:
                        return None
        return None

    def _known(self) -> list[tuple[Entry, ReportResult]]:
        listing = self._storage.listing()
        manifests = {name: entry for name, entry in listing.items() if name.endswith(_MANIFEST)}
        self._kept = {name: self._manifest(name, entry) for name, entry in manifests.items()}
        return [
            (entry, result)
            for entry, result in self._kept.values()
            if result is not None
            # Its manifest is written last, and its files may have been removed since.
            and all(file.name in listing for file in (result, *result.files))
        ]

    def _manifest(self, name: str, entry: Entry) -> tuple[Entry, ReportResult | None]:
        kept = self._kept.get(name)
        return kept if kept is not None and kept[0] == entry else (entry, self._parse(name))

    def _parse(self, name: str) -> ReportResult | None:
        try:
            result = ReportResult.model_validate_json(self._storage.read(name))
        except (FileNotFoundError, ValidationError):
            return None
        # It speaks for the file beside it, and for those in the folder that is called like it; for no others.
        stem = name.removesuffix(_MANIFEST)
        ours = result.name == stem + _CSV and all(file.name.startswith(f"{stem}/") for file in result.files)
        return result if ours else None
