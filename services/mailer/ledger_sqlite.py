"""The ledger in one SQLite file: for the embedded mode, and beside a worker while Redis is away."""

import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from services.mailer.ledger import KEEP, KEEP_PARKED, Claim, Entry, LeaseLost, LedgerAway, State
from services.mailer.sqlite_file import SqliteFile

_SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, owner TEXT NOT NULL, event TEXT NOT NULL, note TEXT NOT NULL,
    until REAL NOT NULL, expires REAL NOT NULL
);
"""


class SqliteLedger:
    """See `Ledger`. Safe between processes of one machine."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, _SCHEMA, LedgerAway)

    def claim(self, keys: Sequence[str], claim: Claim) -> list[Entry]:
        """See Ledger."""
        now = time.time()
        with self._file.transaction() as connection:
            connection.execute("DELETE FROM ledger WHERE expires < ?", (now,))
            return [self._claim_one(connection, key, claim, now) for key in keys]

    def _claim_one(self, connection: sqlite3.Connection, key: str, claim: Claim, now: float) -> Entry:
        row = connection.execute("SELECT state, event, note, until FROM ledger WHERE key = ?", (key,)).fetchone()
        if row is not None:
            state, event, note, until = row
            if state == "sent":
                return Entry(State.SENT, event)
            if state == "refused" and event == claim.event and not claim.fresh:
                return Entry(State.REFUSED, event, note)
            if state in ("claimed", "sending") and until > now:
                return Entry(State.BUSY, event, wait=until - now)
            if state in ("sending", "parked") and claim.park:
                _put(connection, key, "parked", claim, expires=now + KEEP_PARKED, event=event)
                return Entry(State.PARKED, event)
        _put(connection, key, "claimed", claim, expires=now + KEEP, until=now + claim.lease)
        return Entry(State.CLAIMED, claim.event)

    def begin(self, keys: Collection[str], claim: Claim) -> None:
        """See Ledger."""
        now = time.time()
        with self._file.transaction() as connection:
            for key in keys:
                done = connection.execute(
                    "UPDATE ledger SET state = 'sending', until = ? WHERE key = ? AND owner = ? AND state = 'claimed'",
                    (now + claim.lease, key, claim.owner),
                )
                if done.rowcount == 0:
                    raise LeaseLost(key)

    def record(self, claim: Claim, sent: Collection[str] = (), refused: Mapping[str, str] | None = None) -> None:
        """See Ledger."""
        expires = time.time() + KEEP
        with self._file.transaction() as connection:
            for key in sent:
                _put(connection, key, "sent", claim, expires=expires)
            for key, note in (refused or {}).items():
                if _owned(connection, key, claim):
                    _put(connection, key, "refused", claim, expires=expires, note=note)

    def release(self, keys: Collection[str], claim: Claim) -> None:
        """See Ledger."""
        with self._file.transaction() as connection:
            for key in keys:
                if _owned(connection, key, claim):
                    connection.execute("DELETE FROM ledger WHERE key = ?", (key,))

    def park(self, keys: Collection[str], claim: Claim) -> None:
        """See Ledger."""
        with self._file.transaction() as connection:
            for key in keys:
                if _owned(connection, key, claim):
                    _put(connection, key, "parked", claim, expires=time.time() + KEEP_PARKED)

    def forget_parked(self, prefix: str) -> int:
        """See Ledger."""
        with self._file.transaction() as connection:
            return connection.execute(
                "DELETE FROM ledger WHERE state = 'parked' AND substr(key, 1, ?) = ?", (len(prefix), prefix)
            ).rowcount


def _owned(connection: sqlite3.Connection, key: str, claim: Claim) -> bool:
    row = connection.execute(
        "SELECT 1 FROM ledger WHERE key = ? AND owner = ? AND state IN ('claimed', 'sending')", (key, claim.owner)
    ).fetchone()
    return row is not None


def _put(
    connection: sqlite3.Connection,
    key: str,
    state: str,
    claim: Claim,
    *,
    expires: float,
    until: float = 0.0,
    note: str = "",
    event: str | None = None,
) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?)",
        (key, state, claim.owner, event or claim.event, note, until, expires),
    )
