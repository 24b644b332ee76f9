"""A result store in one SQLite file, for the embedded mode.

Celery's own file and database stores cannot count, so they join a chord by a task that polls once a second and that
our topic routing gives no queue to. This one counts in a transaction, and joins as the Redis store does.
"""

import fcntl
import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery.backends.base import KeyValueStoreBackend

from shared.results import submitted
from shared.results.families import FamilyStore
from shared.results.progress import FINAL_STATES, meta
from shared.trace import facts

_SCHEMA = """
CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires REAL);
CREATE TABLE IF NOT EXISTS counted (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS parts (task TEXT, stage TEXT, part TEXT, PRIMARY KEY (task, stage, part));
CREATE TABLE IF NOT EXISTS families (family TEXT, task TEXT, stored REAL, PRIMARY KEY (family, task));
"""
#: Keeps the members that were stored last.
_BOUND = """
DELETE FROM families WHERE family = ?1 AND task NOT IN
  (SELECT task FROM families WHERE family = ?1 ORDER BY stored DESC LIMIT ?2)
"""
#: Seconds that a writer waits for the others.
_BUSY_TIMEOUT = 30.0
#: More parts than a chord can have.
_UNKNOWN = sys.maxsize


#: Celery keeps "results may be waited for" in one variable of the whole process: where two threads join chords at once,
#: the first to end forbids it to the other. Again and again by one thread, because a chord may end in another's.
_joining = threading.RLock()


def _renew_joining() -> None:
    global _joining
    _joining = threading.RLock()


os.register_at_fork(after_in_child=_renew_joining)


class _Chord(dict[str, Any]):
    """What follows on a chord, with a size that is read when Celery asks for it, which is after it has counted.

    A size that was read before may be that of a chord whose last part was not yet published, and is by now done.
    """

    def __init__(self, chord: Mapping[str, Any], size: Callable[[], bytes | None]) -> None:
        super().__init__(chord)
        self._size = size

    def get(self, key: str, default: Any = None) -> Any:
        """As a dict's."""
        size = self._size() if key == "chord_size" else None
        return super().get(key, default) if size is None else int(size)


class SqliteBackend(FamilyStore, KeyValueStoreBackend):
    """Results in the file that a URL `sqlite:///path` names. Safe between processes of one machine."""

    implements_incr = True
    supports_autoexpire = True

    def __init__(self, url: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, url=url, **kwargs)
        self.url = url
        self.path = Path(url.removeprefix("sqlite:///"))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f"{self.path.name}.lock").open("w") as lock:
            # SQLite refuses, and does not wait, when two processes change the journal's mode at once.
            fcntl.flock(lock, fcntl.LOCK_EX)
            with self._connected() as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(_SCHEMA)

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return super().__reduce__(args, {**(kwargs or {}), "url": self.url})

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        # One connection a call: none can be carried over a fork or between threads by mistake.
        connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous=NORMAL")
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise

    def _apply_chord_incr(self, header_result_args: tuple[Any, ...], body: Any, **kwargs: Any) -> None:
        # How many parts it has nobody knows until the last of them is published.
        self._keep_size(header_result_args[0], _UNKNOWN)
        super()._apply_chord_incr(header_result_args, body, **kwargs)

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Remember how many parts the chord has."""
        self._keep_size(group_id, chord_size)

    def on_chord_part_return(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """As Celery's, one thread at a time, and with the size that it was told.

        Celery takes the number of the header's results for it. A group inside the header is one of them, and has
        several parts: the chord would be joined before all of them are done, and where every thread then waits, fail.
        """
        request.chord = _Chord(request.chord, lambda: self.get(self._key_of_size(request.group)))
        with _joining:
            return super().on_chord_part_return(request, *args, **kwargs)

    def _keep_size(self, group: str, size: int) -> None:
        with self._transaction() as connection:
            _set(connection, _text(self._key_of_size(group)), str(size), self.chord_expires)

    def _key_of_size(self, group: str) -> bytes | str:
        return self.get_key_for_chord(group, "-size")

    def get(self, key: bytes | str) -> bytes | None:
        """The value of `key`, or None where there is none or its time is over."""
        with self._connected() as connection:
            return _get(connection, _text(key))

    def mget(self, keys: Iterable[bytes | str]) -> list[bytes | None]:
        """The values of `keys`, in their order."""
        with self._connected() as connection:
            return [_get(connection, _text(key)) for key in keys]

    def set(self, key: bytes | str, value: bytes | str) -> None:
        """Keep `value` until results expire."""
        with self._transaction() as connection:
            _set(connection, _text(key), value, self.expires)
            family = facts.family()
            if family is None:
                return
            connection.execute(
                "INSERT OR REPLACE INTO families VALUES (?, ?, ?)", (family.of, family.task, time.time())
            )
            connection.execute(_BOUND, (family.of, facts.MOST))
            if family.pointed:
                _set(connection, _pointer(family.pointed), family.of, self.expires)

    def family(self, one: str) -> list[str]:
        """Ids of tasks of the canvas that began with the task `one`, or of that group, in the order of their end."""
        with self._connected() as connection:
            found = connection.execute("SELECT task FROM families WHERE family = ? ORDER BY stored", (one,))
            return [task for (task,) in found]

    def first_of(self, group: str) -> str | None:
        """The first task of the canvas that the group is a part of; None where it is the whole."""
        with self._connected() as connection:
            found = _get(connection, _pointer(group))
        return None if found is None else found.decode()

    def delete(self, key: bytes | str) -> None:
        """Forget `key`, and what was counted under it."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM kept WHERE key = ?", (_text(key),))
            connection.execute("DELETE FROM counted WHERE key = ?", (_text(key),))

    def incr(self, key: bytes | str) -> int:
        """Count one more under `key`; gives the count."""
        with self._transaction() as connection:
            row = connection.execute(
                "INSERT INTO counted VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET value = value + 1 RETURNING value",
                (_text(key),),
            ).fetchone()
            return int(row[0])

    def expire(self, key: bytes | str, value: float) -> None:
        """Forget `key` after `value` seconds."""
        with self._transaction() as connection:
            expires = time.time() + value if value else None
            connection.execute("UPDATE kept SET expires = ? WHERE key = ?", (expires, _text(key)))

    def cleanup(self) -> None:
        """Drop what has expired."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM kept WHERE expires < ?", (time.time(),))
            if self.expires:
                connection.execute("DELETE FROM families WHERE stored < ?", (time.time() - self.expires,))

    def store_progress(self, task_id: str, stage: str, total: int, *, done: int = 0, part: str | None = None) -> None:
        """Store progress unless the task is final; see `shared.results.progress`."""
        key = _text(self.get_key_for_task(task_id))
        with self._transaction() as connection:
            current = _get(connection, key)
            if current is not None and json.loads(current)["status"] in FINAL_STATES:
                return
            if part is not None:
                connection.execute("INSERT OR IGNORE INTO parts VALUES (?, ?, ?)", (task_id, stage, part))
                done = connection.execute(
                    "SELECT count(*) FROM parts WHERE task = ? AND stage = ?", (task_id, stage)
                ).fetchone()[0]
            _set(connection, key, json.dumps(meta(task_id, stage, done, total)), self.expires)

    def store_submitted(self, task_id: str) -> None:
        """Remember a task that was handed in, unless it is known; see `shared.results.submitted`."""
        key = _text(self.get_key_for_task(task_id))
        with self._transaction() as connection:
            if _get(connection, key) is None:
                _set(connection, key, json.dumps(submitted.meta(task_id)), self.expires)

    def withdraw_submitted(self, task_id: str) -> None:
        """Forget a task that was handed in, unless more is known of it."""
        key = _text(self.get_key_for_task(task_id))
        with self._transaction() as connection:
            current = _get(connection, key)
            if current is not None and json.loads(current)["status"] == submitted.SUBMITTED:
                connection.execute("DELETE FROM kept WHERE key = ?", (key,))


def _pointer(group: str) -> str:
    return f"{group}:first"


def _text(key: bytes | str) -> str:
    return key.decode() if isinstance(key, bytes) else key


def _get(connection: sqlite3.Connection, key: str) -> bytes | None:
    row = connection.execute(
        "SELECT value FROM kept WHERE key = ? AND (expires IS NULL OR expires > ?)", (key, time.time())
    ).fetchone()
    return None if row is None else bytes(row[0])


def _set(connection: sqlite3.Connection, key: str, value: bytes | str, expires: float | None) -> None:
    data = value.encode() if isinstance(value, str) else value
    connection.execute(
        "INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", (key, data, time.time() + expires if expires else None)
    )
