"""A task recorded in its caller's own database transaction, and published by a relay after the commit.

    with connection:                                    # a transaction of sqlite3, psycopg, ...
        connection.execute("INSERT INTO orders ...")
        outbox.add(connection, mailer.send_notice(...))

What commits has its task, what is rolled back has none: docs/outbox.md.
"""

from shared.outbox.entry import add, add_async
from shared.outbox.table import create_table, ddl
from shared.outbox.transaction import NoTransaction, UnknownConnection

__all__ = ["NoTransaction", "UnknownConnection", "add", "add_async", "create_table", "ddl"]
