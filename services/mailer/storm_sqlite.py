"""Storm control in one SQLite file: for the embedded mode, and beside a worker while Redis is away."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from services.mailer.sqlite_file import SqliteFile
from services.mailer.storm import HOUR, KEEP, MOST_LINES, OTHERS, WINDOWS, HeldBack, Limits, Report, StormAway, merged
from shared.signatures.mailer import Window

_SCHEMA = """
CREATE TABLE IF NOT EXISTS opened (fingerprint TEXT PRIMARY KEY, event TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS mailed (event TEXT PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS held (
    -- Empty until a digest takes the line: then the digest's event.
    taken TEXT NOT NULL, period TEXT NOT NULL, fingerprint TEXT NOT NULL,
    subject TEXT NOT NULL, count INTEGER NOT NULL, first REAL NOT NULL, last REAL NOT NULL,
    PRIMARY KEY (taken, period, fingerprint)
);
"""
_LINE = "fingerprint, subject, count, first, last"


class SqliteStorm:
    """See `Storm`. Safe between processes of one machine."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, _SCHEMA, StormAway)

    def admit(self, report: Report, limits: Limits, now: float) -> bool:
        """See Storm."""
        with self._file.transaction() as connection:
            connection.execute("DELETE FROM opened WHERE at <= ?", (now - limits.window,))
            connection.execute("DELETE FROM mailed WHERE at <= ?", (now - HOUR,))
            connection.execute("DELETE FROM held WHERE last < ?", (now - KEEP,))
            opened = connection.execute(
                "SELECT event FROM opened WHERE fingerprint = ?", (report.fingerprint,)
            ).fetchone()
            if opened is not None and opened[0] == report.event:
                return True
            mailed = connection.execute("SELECT count(*) FROM mailed").fetchone()[0]
            if opened is None and mailed < limits.hourly:
                connection.execute("INSERT INTO opened VALUES (?, ?, ?)", (report.fingerprint, report.event, now))
                connection.execute("INSERT OR REPLACE INTO mailed VALUES (?, ?)", (report.event, now))
                return True
            line = HeldBack(report.fingerprint, report.subject, 1, report.seen, report.seen)
            for window in WINDOWS:
                _add(connection, window, line)
            return False

    def hold(self, window: Window, lines: Iterable[HeldBack]) -> None:
        """See Storm."""
        with self._file.transaction() as connection:
            for line in lines:
                _add(connection, window, line)

    def take(self, window: Window, event: str) -> list[HeldBack]:
        """See Storm."""
        with self._file.transaction() as connection:
            select = f"SELECT {_LINE} FROM held WHERE taken = ? AND period = ? ORDER BY count DESC, fingerprint"
            rows = connection.execute(select, (event, window)).fetchall()
            if not rows:
                connection.execute("UPDATE held SET taken = ? WHERE taken = '' AND period = ?", (event, window))
                rows = connection.execute(select, (event, window)).fetchall()
        return [HeldBack(*row) for row in rows]

    def done(self, window: Window, event: str) -> None:
        """See Storm."""
        with self._file.transaction() as connection:
            connection.execute("DELETE FROM held WHERE taken = ? AND period = ?", (event, window))


def _add(connection: sqlite3.Connection, window: Window, line: HeldBack) -> None:
    select = f"SELECT {_LINE} FROM held WHERE taken = '' AND period = ? AND fingerprint = ?"
    row = connection.execute(select, (window, line.fingerprint)).fetchone()
    if row is None:
        lines = connection.execute("SELECT count(*) FROM held WHERE taken = '' AND period = ?", (window,)).fetchone()
        if lines[0] >= MOST_LINES and line.fingerprint != OTHERS:
            _add(connection, window, HeldBack(OTHERS, "other errors", line.count, line.first, line.last))
            return
    total = merged(HeldBack(*row) if row else None, line)
    connection.execute(
        f"INSERT OR REPLACE INTO held (taken, period, {_LINE}) VALUES ('', ?, ?, ?, ?, ?, ?)",
        (window, total.fingerprint, total.subject, total.count, total.first, total.last),
    )
