"""What commits has its task and what is rolled back has none, whoever holds the transaction."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from celery import chain, chord, group
from click.testing import CliRunner, Result
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from shared import outbox
from shared.app import App
from shared.cli.outbox import outbox as cli
from shared.dead_letters.cause import DUE, FIRST_PUBLISHED
from shared.outbox.entry import freeze, thaw
from shared.outbox.relay import Relay, Stop
from shared.outbox.store import Store
from shared.publishing import Line, TooLarge, Unknown
from shared.scope import scope
from shared.signatures import calculator
from tests.publishing.databases import Database

ROOT = Path(__file__).resolve().parents[2]
ORDER = "INSERT INTO orders VALUES ('{}')"


class RolledBack(Exception):
    """The caller's transaction fails."""


def by_driver(database: Database, fails: bool) -> str:
    connection = database.connect()
    try:
        with connection:  # commits, or rolls back
            identity = outbox.add(connection, calculator.note("a"))
            connection.execute(ORDER.format(identity))
            if fails:
                raise RolledBack
    finally:
        connection.close()
    return identity


def by_sqlalchemy(database: Database, fails: bool) -> str:
    engine = create_engine(database.sqlalchemy_url)
    with engine.begin() as connection:
        identity = outbox.add(connection, calculator.note("a"))
        connection.execute(text(ORDER.format(identity)))
        if fails:
            raise RolledBack
    engine.dispose()
    return identity


def by_session(database: Database, fails: bool) -> str:
    engine = create_engine(database.sqlalchemy_url)
    with Session(engine) as session, session.begin():
        identity = outbox.add(session, calculator.note("a"))
        session.execute(text(ORDER.format(identity)))
        if fails:
            raise RolledBack
    engine.dispose()
    return identity


def by_async_session(database: Database, fails: bool) -> str:
    async def work() -> str:
        engine = create_async_engine(database.async_url)
        try:
            async with AsyncSession(engine) as session, session.begin():
                identity = await outbox.add_async(session, calculator.note("a"))
                await session.execute(text(ORDER.format(identity)))
                if fails:
                    raise RolledBack
        finally:
            await engine.dispose()
        return identity

    return asyncio.run(work())


WAYS: list[Callable[[Database, bool], str]] = [by_driver, by_sqlalchemy, by_session, by_async_session]


@pytest.mark.parametrize("way", WAYS)
def test_a_commit_has_its_task(database: Database, way: Callable[[Database, bool], str]) -> None:
    identity = way(database, False)
    assert database.orders() == database.waiting() == [identity]


@pytest.mark.parametrize("way", WAYS)
def test_what_is_rolled_back_has_none(database: Database, way: Callable[[Database, bool], str]) -> None:
    with pytest.raises(RolledBack):
        way(database, True)
    assert database.orders() == database.waiting() == []


def test_one_id_is_one_row(database: Database) -> None:
    connection = database.connect()
    outbox.add(connection, calculator.note("a"), task_id="mine")
    with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
        outbox.add(connection, calculator.note("a"), task_id="mine")
    connection.close()


# --- What is no transaction -------------------------------------------------------------------------------------------


def test_a_connection_that_commits_by_itself_is_refused(database: Database) -> None:
    if database.is_sqlite:
        connection: Any = sqlite3.connect(database.url.removeprefix("sqlite:///"), isolation_level=None)
    else:
        connection = psycopg.connect(database.url, autocommit=True)
    with pytest.raises(outbox.NoTransaction):
        outbox.add(connection, calculator.note("a"))
    # And is taken where somebody began a transaction
    connection.execute("BEGIN")
    identity = outbox.add(connection, calculator.note("a"))
    connection.execute("COMMIT")
    connection.close()
    assert database.waiting() == [identity]


def test_an_engine_that_commits_by_itself_is_refused(database: Database) -> None:
    engine = create_engine(database.sqlalchemy_url, isolation_level="AUTOCOMMIT")
    for one in (engine, create_engine(database.sqlalchemy_url).execution_options(isolation_level="AUTOCOMMIT")):
        with one.connect() as connection, pytest.raises(outbox.NoTransaction):
            outbox.add(connection, calculator.note("a"))


@pytest.mark.parametrize("given", [None, "sqlite:///shop.sqlite", object()])
def test_what_is_no_connection_is_refused_by_name(given: Any) -> None:
    with pytest.raises(outbox.UnknownConnection, match=type(given).__name__):
        outbox.add(given, calculator.note("a"))


def test_an_asynchronous_session_is_told_the_other_name(database: Database) -> None:
    engine = create_async_engine(database.async_url)
    with pytest.raises(outbox.UnknownConnection, match="add_async"):
        outbox.add(AsyncSession(engine), calculator.note("a"))


def test_what_no_broker_takes_is_refused_in_the_transaction(database: Database) -> None:
    with pytest.raises(TooLarge):
        outbox.add(database.connect(), calculator.note("x" * 17 * 2**20))


# --- What is recorded -------------------------------------------------------------------------------------------------

CANVASES: dict[str, Callable[[], Any]] = {
    "task": lambda: calculator.note("a"),
    "chain": lambda: chain(calculator.add(1, 2), calculator.multiply.s(3), calculator.multiply.s(4)),
    "group": lambda: group(calculator.note("a"), calculator.note("b")),
    "chord": lambda: chord([calculator.add(1, 1), calculator.add(2, 2)], calculator.total.s()),
    "group, then chain": lambda: group(calculator.add(1, 1), calculator.add(2, 2)) | calculator.total.s(),
    "group of chains": lambda: group(chain(calculator.add(1, 2), calculator.multiply.s(n)) for n in range(2)),
    "map": lambda: calculator.note.map(["a", "b"]),
}


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is handed to the broker."""
    seen: list[dict[str, Any]] = []

    def publish(line: Line, body: Any, **options: Any) -> None:
        if options["headers"].get("task"):
            seen.append({**options["headers"], "body": json.loads(json.dumps(body)), FIRST_PUBLISHED: None, DUE: None})

    monkeypatch.setattr(Line, "publish", publish)
    return seen


@pytest.mark.parametrize("kind", CANVASES)
def test_a_canvas_is_the_same_however_often_it_is_published(
    make_embedded: Callable[[], App], messages: list[dict[str, Any]], kind: str
) -> None:
    # Given a canvas, recorded in a scope
    app = make_embedded()
    with scope(locale="fr"):
        identity, recorded = freeze(CANVASES[kind](), None, {})
    # When it is published twice, elsewhere
    published = []
    for _ in range(2):
        messages.clear()
        assert thaw(recorded, app).apply_async().id == identity
        published.append([*messages])
    # Then its messages are the same, ids and all, and each has the scope
    assert published[0] == published[1] and published[0]
    assert all(message["scope"] == {"locale": "fr"} for message in published[0])


def test_times_count_from_the_recording(make_embedded: Callable[[], App], messages: list[dict[str, Any]]) -> None:
    app = make_embedded()
    _, delayed = freeze(calculator.note("a"), None, {"countdown": 3600, "expires": 7200})
    _, grouped = freeze(group([calculator.note("a").set(countdown=60)]), None, {})
    for recorded in (delayed, delayed, grouped, grouped):
        thaw(recorded, app).apply_async()
    assert messages[0]["eta"] == messages[1]["eta"] and messages[0]["expires"] == messages[1]["expires"]
    assert messages[2]["eta"] == messages[3]["eta"] is not None


# --- The relay's bookkeeping, without a server ------------------------------------------------------------------------


def committed(database: Database, *signatures: Any) -> list[str]:
    """Record tasks in one transaction."""
    connection = database.connect()
    with connection:
        ids = [outbox.add(connection, one) for one in signatures]
    connection.close()
    return ids


def test_rows_are_published_in_their_order_and_go(
    database: Database, make_embedded: Callable[[], App], messages: list[dict[str, Any]]
) -> None:
    ids = committed(database, *(calculator.note(str(n)) for n in range(25)))
    relay = Relay(make_embedded(), Store(database.url), batch=10)
    relay.drain()
    assert [message["id"] for message in messages] == ids
    assert database.waiting() == [] and relay.published == 25


def test_a_row_that_cannot_be_published_holds_up_no_other(
    database: Database, make_embedded: Callable[[], App], messages: list[dict[str, Any]]
) -> None:
    # Given a row that is no signature, before one that is
    bad, good = committed(database, calculator.note("bad"), calculator.note("good"))
    database.query(f"UPDATE taskhouse_outbox SET signature = '[]' WHERE task_id = '{bad}'")
    store = Store(database.url)
    relay = Relay(make_embedded(), store, max_attempts=3)
    # When the relay works, each time as soon as the row is due again
    for attempt in (1, 2, 3):
        relay.drain()
        [row] = store.rows()
        assert (row.attempts, row.task_id, row.claimed_by) == (attempt, bad, None) and row.error
        database.query("UPDATE taskhouse_outbox SET due_at = 0")
    # Then the good one went at once, and the bad one is parked, with its reason, after so many attempts
    assert [message["id"] for message in messages] == [good]
    assert row.parked_at and relay.parked == 1
    relay.drain()
    assert store.rows(parked=False) == [] and [one.attempts for one in store.rows(parked=True)] == [3]
    # And an operator has it tried again, or drops it
    assert store.retry([bad]) == 1 and store.rows(parked=False)[0].attempts == 0
    relay.drain()
    assert store.drop(None) == 0  # it is not parked
    database.query("UPDATE taskhouse_outbox SET parked_at = 1")
    assert store.drop([bad]) == 1 and database.waiting() == []


def test_a_row_that_is_claimed_is_nobody_elses_until_the_lease_ends(database: Database) -> None:
    ids = committed(database, *(calculator.note(str(n)) for n in range(4)))
    one, other = Store(database.url), Store(database.url)
    assert [row.task_id for row in one.claim("one", 2, 60)] == ids[:2]
    assert [row.task_id for row in other.claim("other", 10, 0)] == ids[2:]
    # The other's lease is over, the first's is not
    assert [row.task_id for row in one.claim("one", 10, 60)] == ids[2:]
    one.release("one")
    assert [row.task_id for row in other.claim("other", 10, 60)] == ids


@pytest.mark.parametrize("alone", [True, False], ids=["one row", "the broker"])
def test_what_the_broker_does_not_answer_counts_only_where_it_answers_others(
    database: Database, make_embedded: Callable[[], App], monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    # Given a row to which no answer ever comes, or a broker that answers to none
    silent, *_ = committed(database, *(calculator.note(str(n)) for n in range(5)))

    def publish(line: Line, body: Any, **options: Any) -> None:
        if not alone or options["headers"].get("id") == silent:
            raise Unknown("no answer", passing=True)

    monkeypatch.setattr(Line, "publish", publish)
    store = Store(database.url)
    relay = Relay(make_embedded(), store, max_attempts=2)
    # When the relay tries again and again
    for _ in range(12):
        with suppress(Stop):
            relay.drain()
        database.query("UPDATE taskhouse_outbox SET due_at = 0")
    # Then the row is parked and the others are published; or nothing is anybody's fault
    if alone:
        [row] = store.rows()
        assert row.task_id == silent and row.parked_at
    else:
        assert len(store.rows(parked=False)) == 5 and max(row.attempts for row in store.rows()) <= 1


def test_an_operator_sees_what_was_given_up(
    database: Database, make_embedded: Callable[[], App], messages: list[dict[str, Any]]
) -> None:
    def command(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["--database", database.url, *arguments], obj=SimpleNamespace(app=app))

    # Given a row that cannot be published
    app = make_embedded()
    bad, good = committed(database, calculator.note("bad"), calculator.note("good"))
    database.query(f"UPDATE taskhouse_outbox SET signature = '[]', attempts = 9 WHERE task_id = '{bad}'")
    assert command("relay", "--once").exit_code == 1
    assert [message["id"] for message in messages] == [good]
    # Then it is listed with its reason
    [row] = json.loads(command("list", "--parked", "--format", "json").stdout)
    assert (row["task_id"], row["attempts"]) == (bad, 10) and row["error"]
    assert bad in command("list").stdout
    # And is tried again, or dropped
    assert command("retry", bad).exit_code == 0
    assert json.loads(command("list", "--parked", "--format", "json").stdout) == []
    assert command("drop", "--yes", bad).exit_code == 1  # it is not parked any more
    database.query("UPDATE taskhouse_outbox SET parked_at = 1")
    assert command("drop", "--yes", "--all").exit_code == 0
    assert database.waiting() == []


@pytest.mark.parametrize("url", [None, "oracle://shop@db/shop", "shop.sqlite", "sqlite:////nowhere/shop.sqlite"])
def test_a_database_that_is_none_is_named(make_embedded: Callable[[], App], url: str | None) -> None:
    arguments = ["--database", url, "list"] if url else ["list"]
    done = CliRunner().invoke(cli, arguments, obj=SimpleNamespace(app=make_embedded()))
    if url and url.startswith("sqlite"):
        assert done.exit_code == 3 and "does not answer" in done.output
    else:
        assert done.exit_code == 2 and "OUTBOX_URL" in done.output


# --- Django -----------------------------------------------------------------------------------------------------------

DJANGO = """
import django, sys
from django.conf import settings
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
    INSTALLED_APPS=["shared.contrib.django_outbox"],
)
django.setup()
from django.core.management import call_command
from django.db import connection, transaction
from shared import outbox
from shared.signatures import calculator

call_command("migrate", verbosity=0)
call_command("makemigrations", check=True, verbosity=0)
with transaction.atomic():
    print(outbox.add(connection, calculator.note("kept")))
try:
    with transaction.atomic():
        outbox.add(connection, calculator.note("rolled back"))
        raise ZeroDivisionError
except ZeroDivisionError:
    pass
try:
    outbox.add(connection, calculator.note("alone"))
except outbox.NoTransaction as error:
    print(error)
with connection.cursor() as cursor:
    cursor.execute("SELECT task_id FROM taskhouse_outbox")
    print(*(row[0] for row in cursor.fetchall()))
call_command("migrate", "taskhouse_outbox", "zero", verbosity=0)
print(connection.introspection.table_names())
"""


def test_djangos_transaction_and_migration(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DJANGO, str(tmp_path / "site.sqlite")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    identity, refusal, kept, tables = done.stdout.splitlines()
    assert kept == identity and "transaction.atomic()" in refusal and "taskhouse_outbox" not in tables


def test_the_outbox_needs_neither_sqlalchemy_nor_django_nor_a_driver(tmp_path: Path) -> None:
    script = """
import sys
for name in ("sqlalchemy", "django", "psycopg", "pymysql"):
    sys.modules[name] = None
import sqlite3
from shared import outbox
from shared.outbox.relay import Relay
from shared.outbox.store import Store
from shared.signatures import calculator
connection = sqlite3.connect(sys.argv[1])
outbox.create_table(connection)
outbox.add(connection, calculator.note("a"))
connection.commit()
print(len(Store("sqlite:///" + sys.argv[1]).rows()))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "shop.sqlite")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout == "1\n", done.stderr
