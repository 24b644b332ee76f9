"""The caller's transaction, whatever holds it: a DB-API connection, SQLAlchemy's, Django's. None is imported here."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from shared.errors import Error

#: What a DB-API 2 module, or SQLAlchemy of a dialect, wants where a value goes.
_PLACES: dict[str, Callable[[int], str]] = {
    "qmark": lambda number: "?",
    "format": lambda number: "%s",
    "pyformat": lambda number: "%s",
    "numeric": lambda number: f":{number}",
    "numeric_dollar": lambda number: f"${number}",
}
_DIALECTS = {
    "sqlite3": "sqlite",
    "pysqlite3": "sqlite",
    "psycopg": "postgresql",
    "psycopg2": "postgresql",
    "pg8000": "postgresql",
    "pymysql": "mysql",
    "MySQLdb": "mysql",
    "mysql": "mysql",
    "mariadb": "mysql",
}


class UnknownConnection(Error, TypeError):
    """What was given is no connection and no session that the outbox knows."""


class NoTransaction(Error):
    """The connection commits each statement by itself, so that a task would not share its caller's fate."""


class Transaction:
    """One way to run a statement in a transaction that somebody else begins and ends.

    Attributes:
        dialect: `sqlite`, `postgresql`, `mysql`, or another that SQLAlchemy or Django names.

    Raises:
        UnknownConnection: see there.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        if hasattr(connection, "run_sync"):
            raise UnknownConnection("the connection is asynchronous: `await outbox.add_async(...)` in place of `add`")
        if hasattr(connection, "get_bind"):  # SQLAlchemy's Session
            self._connection = connection = connection.connection()
        if hasattr(connection, "exec_driver_sql"):  # SQLAlchemy's Connection
            self.dialect = _plain(connection.dialect.name)
            self._paramstyle: str = connection.dialect.paramstyle
            self._run = connection.exec_driver_sql
        elif hasattr(connection, "vendor") and hasattr(connection, "in_atomic_block"):  # Django
            self.dialect = _plain(connection.vendor)
            self._paramstyle = "format"
            self._run = self._by_cursor
        else:
            module = _module(connection)
            self.dialect = _DIALECTS[module.__name__.partition(".")[0]]
            self._paramstyle = module.paramstyle
            self._run = self._by_cursor
        if self._paramstyle not in _PLACES:
            raise UnknownConnection(f"parameters of the style {self._paramstyle!r} are not known to the outbox")

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Run a statement whose values stand as `?`."""
        self._run(self.text(statement), tuple(values))

    def text(self, statement: str) -> str:
        """`statement` as its driver wants the places of values written."""
        place, parts = _PLACES[self._paramstyle], statement.split("?")
        return parts[0] + "".join(place(number) + part for number, part in enumerate(parts[1:], 1))

    def check(self) -> None:
        """Raise NoTransaction where the next statement would be committed by itself."""
        one = self._connection
        if hasattr(one, "exec_driver_sql"):
            # SQLAlchemy begins with the first statement; how, its events may say.
            one.exec_driver_sql("SELECT 1")
            one = one.connection.driver_connection
        if hasattr(one, "in_atomic_block"):
            alone, advice = one.get_autocommit() and not one.in_atomic_block, "call it in `with transaction.atomic():`"
        elif self.dialect == "sqlite":
            # Python 3.12 has `autocommit` too, which is -1 where isolation_level counts.
            by_itself = one.isolation_level is None and getattr(one, "autocommit", -1) in (-1, True)
            alone, advice = by_itself and not one.in_transaction, "execute BEGIN first"
        elif self.dialect == "postgresql":
            # 0 is libpq's word for: no transaction.
            status = getattr(getattr(one, "info", None), "transaction_status", 0)
            alone, advice = bool(getattr(one, "autocommit", False)) and status == 0, "execute BEGIN first"
        else:
            mode = getattr(one, "get_autocommit", None)
            alone, advice = bool(mode()) if mode else False, "switch autocommit off"
        if alone:
            raise NoTransaction(f"this connection commits each statement by itself: {advice}")

    def _by_cursor(self, statement: str, values: tuple[Any, ...]) -> None:
        cursor = self._connection.cursor()
        try:
            cursor.execute(statement, values)
        finally:
            cursor.close()


def _plain(dialect: str) -> str:
    return "mysql" if dialect == "mariadb" else dialect


def _module(connection: Any) -> Any:
    """The DB-API module of a connection, or of the class that its own stands on."""
    for kind in type(connection).__mro__:
        name = kind.__module__
        if name.partition(".")[0] not in _DIALECTS:
            continue
        while name:
            module = sys.modules.get(name)
            if hasattr(module, "paramstyle"):
                return module
            name = name.rpartition(".")[0]
    raise UnknownConnection(
        f"{type(connection).__qualname__} is not known to the outbox: give it a connection of "
        f"{', '.join(_DIALECTS)}, a Session or a Connection of SQLAlchemy, or Django's connection"
    )
