"""One SQLite file that several processes write to."""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

#: Seconds that a writer waits for the others.
BUSY_TIMEOUT = 10.0


class SqliteFile:
    """Transactions on the file at `path`, which is made with `schema` where it is missing.

    Args:
        away: raised in place of SQLite's own errors.
    """

    def __init__(self, path: Path, schema: str, away: type[Exception]) -> None:
        self._path = path
        self._away = away
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f"{path.name}.lock").open("w") as lock:
            # SQLite refuses, and does not wait, when two processes change the journal's mode at once.
            fcntl.flock(lock, fcntl.LOCK_EX)
            with closing(self._connect()) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(schema)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is done in the block, or nothing of it; one writer at a time."""
        try:
            # One connection a transaction: none can be carried over a fork or between threads by mistake.
            with closing(self._connect()) as connection:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            raise self._away(f"{self._path}: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT, isolation_level=None)
        # A power cut may undo the last mails' records; a killed process does not.
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection
