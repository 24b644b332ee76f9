"""The ledger: which attempts began, which effects happened. A container of its own; it knows no broker and no Redis.

A guarded effect is a row with a unique key: a second one is refused by the database itself and counted as repelled.
Only with that guard taken away, in the negative controls, can a key stand here twice.
"""

import asyncio
import json
import sqlite3
import sys
import time
from typing import Any

SCHEMA = """
CREATE TABLE attempts (key TEXT NOT NULL, at REAL NOT NULL, host TEXT NOT NULL);
CREATE TABLE effects (key TEXT NOT NULL, at REAL NOT NULL, guarded INTEGER NOT NULL);
CREATE UNIQUE INDEX once ON effects (key) WHERE guarded;
CREATE TABLE repelled (key TEXT NOT NULL, at REAL NOT NULL);
"""
TABLES = ("attempts", "effects", "repelled")
#: Seconds in which a task that was begun is taken to be running still.
LATELY = 5.0
#: A line of an answer may hold every row of a long case.
LIMIT = 64 * 2**20


class Book:
    """The tables, and what can be asked of them."""

    def __init__(self, path: str) -> None:
        self.database = sqlite3.connect(path, isolation_level=None)
        self.database.executescript(SCHEMA)

    def begin(self, key: str, host: str) -> bool:
        self.database.execute("INSERT INTO attempts VALUES (?, ?, ?)", (key, time.time(), host))
        return True

    def effect(self, key: str, guarded: bool) -> bool:
        try:
            self.database.execute("INSERT INTO effects VALUES (?, ?, ?)", (key, time.time(), guarded))
        except sqlite3.IntegrityError:
            self.database.execute("INSERT INTO repelled VALUES (?, ?)", (key, time.time()))
            return False
        return True

    def count(self) -> dict[str, int]:
        return {name: self.database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in TABLES}

    def rows(self, table: str) -> list[Any]:
        assert table in TABLES, table
        return self.database.execute(f"SELECT * FROM {table} ORDER BY at").fetchall()

    def running(self) -> int:
        """How many keys were begun a short while ago, and have had no effect."""
        lately = "SELECT DISTINCT key FROM attempts WHERE at > ?"
        query = f"SELECT count(*) FROM ({lately}) WHERE key NOT IN (SELECT key FROM effects)"
        return int(self.database.execute(query, (time.time() - LATELY,)).fetchone()[0])

    def clear(self) -> bool:
        for name in TABLES:
            self.database.execute(f"DELETE FROM {name}")
        return True


async def main(path: str, port: int) -> None:
    """Serve until the container is stopped."""
    book = Book(path)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                question = json.loads(line)
                answer = getattr(book, question.pop("what"))(**question)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass  # its process was killed, as was to be
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "0.0.0.0", port, limit=LIMIT)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
