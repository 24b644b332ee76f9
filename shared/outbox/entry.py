"""What a row of the outbox holds: a signature with all that only its caller knows, made fast where it is added."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Signature, current_task
from celery.canvas import maybe_signature
from kombu.utils.json import dumps, loads

from shared import scope
from shared.outbox.table import CHANNEL, TABLE
from shared.outbox.transaction import Transaction
from shared.publishing import TooLarge
from shared.topology import MAX_MESSAGE_SIZE

_INSERT = f"INSERT INTO {TABLE} (task_id, task, signature, created_at, due_at) VALUES (?, ?, ?, ?, ?)"


def add(connection: Any, signature: Signature, *, task_id: str | None = None, **options: Any) -> str:
    """Record a task in the transaction of `connection`; gives the task's id.

    Its scope and its times (`countdown`, `eta`, `expires`) are those of this moment, however late it is published. A
    chain, a group and a chord are recorded whole, with the ids of all their tasks.

    Args:
        connection: a DB-API 2 connection (sqlite3, psycopg, ...), a Session or a Connection of SQLAlchemy, or Django's
            connection. It is neither committed nor closed.
        signature: what to publish.
        task_id: of the task; a second row of the same id is refused by the database.
        options: as `apply_async` takes them.

    Raises:
        NoTransaction: the connection commits by itself.
        UnknownConnection: `connection` is something else.
        TooLarge: the broker would not take it.
    """
    transaction = Transaction(connection)
    transaction.check()
    identity, text = freeze(signature, task_id, options)
    now = time.time()
    transaction.execute(_INSERT, (identity, signature.task, text, now, now))
    if transaction.dialect == "postgresql":
        # Told at the commit, and not at all where there is none.
        transaction.execute(f"NOTIFY {CHANNEL}")
    return identity


async def add_async(connection: Any, signature: Signature, *, task_id: str | None = None, **options: Any) -> str:
    """As `add`, in the transaction of SQLAlchemy's AsyncSession or AsyncConnection."""
    identity: str = await connection.run_sync(lambda inner: add(inner, signature, task_id=task_id, **options))
    return identity


def freeze(signature: Signature, task_id: str | None, options: Mapping[str, Any]) -> tuple[str, str]:
    """The id of a task, and its signature as JSON, the same however often it is published."""
    fixed = signature.clone()
    fixed.options.update(options)
    _fix_times(fixed, datetime.now(UTC))
    request = current_task.request if current_task else None
    result = fixed.freeze(
        task_id,
        root_id=(request.root_id or request.id) if request else None,
        parent_id=request.id if request else None,
    )
    if values := scope.current():
        fixed = scope.stamp(fixed, values)
    text: str = dumps(fixed)
    if len(text) > MAX_MESSAGE_SIZE:
        said = f"its JSON has {len(text):,} bytes, and the broker takes {MAX_MESSAGE_SIZE:,} in one message"
        raise TooLarge(f"{signature.task}[{result.id}]: {said}: {TooLarge.advice}")
    return result.id, text


def thaw(text: str, app: Any) -> Signature:
    """The signature of a row."""
    return maybe_signature(loads(text), app=app)


def _fix_times(signature: Any, now: datetime) -> None:
    """Make what counts from the publishing count from now, in all that is published at once."""
    options = signature.options
    if (countdown := options.pop("countdown", None)) is not None:
        options.setdefault("eta", now + timedelta(seconds=countdown))
    if isinstance(options.get("expires"), int | float):
        options["expires"] = now + timedelta(seconds=options["expires"])
    kind = signature.get("subtask_type")
    if kind == "chain":
        parts = signature.tasks[:1]
    elif kind == "group":
        parts = signature.tasks
    elif kind == "chord":
        parts = getattr(signature.tasks, "tasks", signature.tasks)
    else:
        parts = ()
    for part in parts:
        _fix_times(part, now)
