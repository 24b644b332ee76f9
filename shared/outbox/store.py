"""The outbox as its relay and its operator see it: over a connection of their own, named by a URL."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from shared.errors import ConfigError, Error
from shared.outbox.table import CHANNEL, TABLE
from shared.outbox.transaction import Transaction

#: Seconds that SQLite waits for another writer, and that a server has to accept a connection.
PATIENCE = 10
#: Seconds between two looks whether somebody wrote to a SQLite file, which tells nobody.
LOOK = 0.05

_FREE = "parked_at IS NULL AND due_at <= ? AND (claimed_until IS NULL OR claimed_until < ?)"
_FIELDS = "position, task_id, task, created_at, due_at, attempts, claimed_by, claimed_until, parked_at, error"


class DatabaseAway(Error):
    """The database does not answer, or refuses; what was not marked will be claimed again."""


@dataclass(frozen=True)
class Claimed:
    """A row that this relay may publish until its claim ends."""

    position: int
    task_id: str
    task: str
    signature: str
    attempts: int


@dataclass(frozen=True)
class Row:
    """A row as an operator sees it. Times are seconds since 1970; what does not apply is None."""

    position: int
    task_id: str
    task: str
    created_at: float
    due_at: float
    attempts: int
    claimed_by: str | None
    claimed_until: float | None
    parked_at: float | None
    error: str | None

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


class Store:
    """The table in one database. Each method is a transaction of its own.

    Args:
        url: `sqlite:///path`, `postgresql://user@host/name` or `mysql://user@host/name`; `+driver` is overlooked.
        password: of the user that the URL names, where it does not hold it.

    Raises:
        ConfigError: the URL names no database that the outbox knows, or its driver is not installed.
        DatabaseAway: from every method.
    """

    def __init__(self, url: str, password: str | None = None) -> None:
        self._errors: tuple[type[Exception], ...] = (OSError,)
        self._connect: Callable[[], Any]
        self._connection: Any = None
        self._notifies = False
        self._version: int | None = None
        parts = urlsplit(url)
        kind = parts.scheme.partition("+")[0]
        if kind == "sqlite":
            self._connect = lambda: _sqlite(parts.path[1:])
            self._errors += (sqlite3.Error,)
        elif kind in ("postgresql", "postgres"):
            psycopg = _driver("psycopg", "psycopg[binary]")
            plain = url.replace(parts.scheme, "postgresql", 1)
            options = {"autocommit": True, "connect_timeout": PATIENCE, **({"password": password} if password else {})}
            self._connect = lambda: psycopg.connect(plain, **options)
            self._errors += (psycopg.Error,)
        elif kind in ("mysql", "mariadb"):
            pymysql = _driver("pymysql", "PyMySQL")
            given: dict[str, Any] = {
                "host": parts.hostname,
                "port": parts.port or 3306,
                "user": unquote(parts.username or ""),
                "password": password or unquote(parts.password or ""),
                "database": parts.path[1:],
                **dict(parse_qsl(parts.query)),
            }
            self._connect = lambda: pymysql.connect(autocommit=True, connect_timeout=PATIENCE, **given)
            self._errors += (pymysql.Error,)
        else:
            raise ConfigError("OUTBOX_URL: must be like sqlite:///path, postgresql://user@host/name or mysql://...")
        self._kind = "postgresql" if kind.startswith("postgres") else "mysql" if kind == "mariadb" else kind

    def claim(self, owner: str, limit: int, lease: float) -> list[Claimed]:
        """Take the oldest rows that are due and nobody's, for `lease` seconds."""
        lock = "" if self._kind == "sqlite" else " FOR UPDATE SKIP LOCKED"
        with self._transaction():
            now = time.time()
            query = f"SELECT position, task_id, task, signature, attempts FROM {TABLE} WHERE {_FREE}"
            found = self._query(f"{query} ORDER BY position LIMIT ?{lock}", (now, now, limit))
            rows = [Claimed(*row) for row in found]
            if rows:
                marks = ", ".join("?" * len(rows))
                self._query(
                    f"UPDATE {TABLE} SET claimed_by = ?, claimed_until = ? WHERE position IN ({marks})",
                    (owner, now + lease, *(row.position for row in rows)),
                )
        return rows

    def done(self, row: Claimed) -> None:
        """The broker has it: the row goes."""
        with self._transaction():
            self._query(f"DELETE FROM {TABLE} WHERE position = ?", (row.position,))

    def failed(self, row: Claimed, owner: str, attempts: int, error: str, due_in: float | None) -> None:
        """Try it again in so many seconds; None parks it, until an operator says otherwise."""
        now = time.time()
        with self._transaction():
            self._query(
                f"UPDATE {TABLE} SET attempts = ?, error = ?, due_at = ?, parked_at = ?, claimed_by = NULL, "
                "claimed_until = NULL WHERE position = ? AND claimed_by = ?",
                (attempts, error, now + (due_in or 0), now if due_in is None else None, row.position, owner),
            )

    def release(self, owner: str) -> None:
        """Give back what `owner` has claimed and not published."""
        with self._transaction():
            self._query(f"UPDATE {TABLE} SET claimed_by = NULL, claimed_until = NULL WHERE claimed_by = ?", (owner,))

    def rows(self, parked: bool | None = None, limit: int = 1000) -> list[Row]:
        """The oldest rows: all, or those that are parked, or those that are not."""
        wanted = {None: "1 = 1", True: "parked_at IS NOT NULL", False: "parked_at IS NULL"}[parked]
        with self._transaction():
            found = self._query(f"SELECT {_FIELDS} FROM {TABLE} WHERE {wanted} ORDER BY position LIMIT ?", (limit,))
            return [Row(*row) for row in found]

    def retry(self, ids: Sequence[str] | None) -> int:
        """Have parked rows published again, all where `ids` is None; gives how many."""
        reset = f"UPDATE {TABLE} SET parked_at = NULL, attempts = 0, due_at = ? WHERE parked_at IS NOT NULL"
        return self._change(reset, (time.time(),), ids)

    def drop(self, ids: Sequence[str] | None) -> int:
        """Remove parked rows for good, all where `ids` is None; gives how many."""
        return self._change(f"DELETE FROM {TABLE} WHERE parked_at IS NOT NULL", (), ids)

    def wait(self, seconds: float) -> None:
        """Until somebody commits a row, or so many seconds have passed. Where nobody tells, that is the whole time."""
        with self._told():
            connection = self._open()
            if self._kind == "postgresql":
                if not self._notifies:
                    connection.execute(f"LISTEN {CHANNEL}")
                    self._notifies = True
                    return  # what came before it listened
                for _ in connection.notifies(timeout=seconds, stop_after=1):
                    pass
            elif self._kind == "sqlite":
                end = time.monotonic() + seconds
                while (version := self._query("PRAGMA data_version")[0][0]) == self._version:
                    if time.monotonic() >= end:
                        return
                    time.sleep(LOOK)
                self._version = version
            else:
                time.sleep(seconds)

    def close(self) -> None:
        """Leave the database; the next call connects again."""
        connection, self._connection, self._notifies = self._connection, None, False
        if connection is not None:
            with suppress(*self._errors):
                connection.close()

    def _change(self, statement: str, values: tuple[Any, ...], ids: Sequence[str] | None) -> int:
        if ids is not None:
            statement += f" AND task_id IN ({', '.join('?' * len(ids))})"
            values += tuple(ids)
        with self._transaction():
            self._query(statement, values)
            return self._changed

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            self.close()
            raise DatabaseAway(f"the outbox's database does not answer: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._told():
            self._open()
            # SQLite knows one writer: without IMMEDIATE two that read first would refuse each other.
            self._query("BEGIN IMMEDIATE" if self._kind == "sqlite" else "BEGIN")
            try:
                yield
            except BaseException:
                with suppress(*self._errors):
                    self._query("ROLLBACK")
                raise
            self._query("COMMIT")

    def _query(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        cursor = self._connection.cursor()
        try:
            cursor.execute(Transaction(self._connection).text(statement), tuple(values))
            self._changed = cursor.rowcount
            return list(cursor.fetchall()) if cursor.description else []
        finally:
            cursor.close()

    def _open(self) -> Any:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection


def _sqlite(path: str) -> sqlite3.Connection:
    # What begins and ends a transaction is said here. The relay makes no file: it would be an empty one.
    return sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=PATIENCE, isolation_level=None)


def _driver(name: str, package: str) -> Any:
    try:
        return cast(Any, import_module(name))
    except ImportError:
        raise ConfigError(f"OUTBOX_URL: this database needs the driver {name}: pip install '{package}'") from None
