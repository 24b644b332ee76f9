"""A database for the outbox, real in each case: a SQLite file, and a PostgreSQL of our own."""

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg


def postgres_folder() -> Path | None:
    """Where PostgreSQL's programs are; None where it is not installed. Debian does not put them on the path."""
    found = shutil.which("initdb")
    candidates = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(candidates) if (folder / "initdb").exists()), None)


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL that lives in a folder of its own, and listens at a socket there and nowhere else."""
    programs = postgres_folder()
    assert programs is not None
    with tempfile.TemporaryDirectory(prefix="outbox-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # PostgreSQL does not run as root.
        who: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}
        if who:
            shutil.chown(folder, "postgres")
        run: dict[str, Any] = {"check": True, "capture_output": True, "cwd": folder, **who}
        initdb: list[Any] = [programs / "initdb", "-D", "data", "-U", "shop", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, **run)
        options = f"-c fsync=off -c listen_addresses= -c unix_socket_directories={folder}"
        control: list[Any] = [programs / "pg_ctl", "-D", "data", "-w", "-l", "log"]
        subprocess.run([*control, "-o", options, "start"], **{**run, "capture_output": False})
        try:
            yield f"postgresql://shop@/postgres?host={folder}"
        finally:
            with suppress(subprocess.CalledProcessError):
                subprocess.run([*control, "-m", "immediate", "stop"], **run)


class Database:
    """A database with a table of orders beside the outbox."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    @property
    def sqlalchemy_url(self) -> str:
        return self.url if self.is_sqlite else self.url.replace("postgresql", "postgresql+psycopg", 1)

    @property
    def async_url(self) -> str:
        return self.url.replace("sqlite", "sqlite+aiosqlite", 1) if self.is_sqlite else self.sqlalchemy_url

    def connect(self) -> Any:
        """A DB-API connection, as its driver makes it."""
        if self.is_sqlite:
            return sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=10)
        return psycopg.connect(self.url)

    def query(self, statement: str) -> list[Any]:
        """What a statement gives, in a transaction of its own."""
        connection = self.connect()
        try:
            rows = connection.execute(statement)
            found = rows.fetchall() if rows.description else []
            connection.commit()
            return found
        finally:
            connection.close()

    def waiting(self) -> list[str]:
        """The ids in the outbox, in its order."""
        return [row[0] for row in self.query("SELECT task_id FROM taskhouse_outbox ORDER BY position")]

    def orders(self) -> list[str]:
        """What the caller's own table holds."""
        return [row[0] for row in self.query("SELECT task_id FROM orders")]
