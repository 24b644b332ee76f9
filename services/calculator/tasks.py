"""Small arithmetic, and tasks to try every primitive of the canvas with."""

import time
from datetime import UTC, datetime, timedelta

from celery import chord
from celery.exceptions import SoftTimeLimitExceeded

from services.calculator.app import app
from shared.errors import InvalidArguments, Retryable
from shared.signatures import calculator as contract
from shared.tasks import LoggingTask, implements


class Unsteady(Retryable):
    """Asked for."""


@implements(contract.add, app, bind=True, base=LoggingTask)
def add(task, a, b):
    c = a + b
    task.log_msg("Result of %s + %s = %s", a, b, c)
    return c


@implements(contract.multiply, app)
def multiply(a, b):
    return a * b


@implements(contract.add_days, app)
def add_days(days, to):
    start = to or datetime.now(UTC).date()
    try:
        return start + timedelta(days=days)
    except OverflowError:
        raise InvalidArguments(f"calculator.add_days: no day lies {days} days after {start}: give fewer") from None


@implements(contract.total, app)
def total(numbers):
    return sum(numbers)


@implements(contract.count_down, app, bind=True)
def count_down(task, start):
    if start == 0:
        return 0
    # A task never waits for another: it is replaced by them, and its own id answers with what they give.
    return task.replace(chord([contract.add(start, 0), contract.count_down(start - 1)], contract.total.s()))


@implements(contract.wait, app)
def wait(seconds, stubborn):
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            time.sleep(left)
        except SoftTimeLimitExceeded:
            if not stubborn:
                raise
    return seconds


@implements(contract.unsteady, app, bind=True, autoretry_for=(Unsteady,), retry_backoff=False, default_retry_delay=1)
def unsteady(task, failures):
    attempt = task.request.retries + 1
    if attempt <= failures:
        raise Unsteady(f"attempt {attempt} fails, as asked")
    return attempt


@implements(contract.note, app, bind=True, base=LoggingTask)
def note(task, about):
    task.log_msg("%s", about)
