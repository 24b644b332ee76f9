"""Which requests came, when, and what they met."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import count
from threading import Lock
from time import time
from typing import Any

KEPT_HEADERS = ("accept", "accept-encoding", "host", "user-agent", "x-github-api-version")


@dataclass(frozen=True, slots=True)
class RequestRecord:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # those of KEPT_HEADERS that came, in small letters: never a credential
    bearer: bool  # whether a bearer token came
    started: float  # epoch seconds: the request had arrived whole
    ended: float | None = None  # epoch seconds: the answer was about to leave; None: still under way
    status: int | None = None  # None: none has been, or will be, sent
    fault: str | None = None  # the fault that struck

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Record:
    """The requests in the order in which they came. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._numbers = count()
        self._requests: dict[int, RequestRecord] = {}

    def begin(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> int:
        """Note a request that has arrived. Gives its number, for `note` and `end`."""
        kept = {name: headers[name] for name in KEPT_HEADERS if name in headers}
        bearer = headers.get("authorization", "").lower().startswith("bearer ")
        began = RequestRecord(method, path, dict(query), kept, bearer, time())
        with self._lock:
            number = next(self._numbers)
            self._requests[number] = began
        return number

    def note(self, number: int, **facts: Any) -> None:
        with self._lock:
            if number in self._requests:  # it may have been cleared since
                self._requests[number] = replace(self._requests[number], **facts)

    def end(self, number: int, status: int | None) -> None:
        self.note(number, status=status, ended=time())

    def all(self) -> list[RequestRecord]:
        with self._lock:
            return list(self._requests.values())

    def clear(self) -> None:
        with self._lock:
            self._requests.clear()
