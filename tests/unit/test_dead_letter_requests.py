"""Where a task ends, its message is given up for the right reason, and given back only when that helps."""

from typing import Any
from uuid import uuid4

import pytest
from billiard.einfo import ExceptionInfo
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded, WorkerLostError
from celery.worker import request as module
from kombu.message import Message

from shared.dead_letters.cause import Reason
from shared.dead_letters.request import Request
from shared.errors import InvalidArguments, Retryable
from shared.tasks import Task
from shared.topology import DELIVERY_LIMIT


class Ends:
    """What a request told the broker."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def ack(self, *args: Any) -> None:
        self.told.append("acknowledged")

    def reject(self, logger: Any, errors: Any, requeue: bool) -> None:
        self.told.append("given back" if requeue else "given up")


@pytest.fixture
def make(make_app: Any) -> Any:
    """Makes a request of a task that is retried twice, and what it will have told."""
    app = make_app("reporter")

    def nothing() -> None: ...

    task = app.task(nothing, name="reporter.x", base=Task, shared=False, autoretry_for=(Retryable,), max_retries=2)

    def made(**headers: Any) -> tuple[Request, Ends]:
        ends = Ends()
        all_headers = {"task": "reporter.x", "id": str(uuid4()), "lang": "py", **headers}
        message = Message(
            b"[[], {}, {}]", headers=all_headers, content_type="application/json", content_encoding="utf-8"
        )
        return Request(message, app=app, task=task, on_ack=ends.ack, on_reject=ends.reject), ends

    return made


def info(error: BaseException) -> ExceptionInfo:
    try:
        raise error
    except BaseException:
        return ExceptionInfo()


@pytest.mark.parametrize(
    ("error", "retries", "reason"),
    [
        (ValueError("x"), 0, Reason.FAILURE),
        (Retryable("x"), 2, Reason.RETRIES_EXHAUSTED),
        (ValueError("x"), 2, Reason.FAILURE),
        (SoftTimeLimitExceeded(), 0, Reason.SOFT_TIMEOUT),
        (InvalidArguments("x"), 0, Reason.INVALID_ARGUMENTS),
        (Reject("x", requeue=False), 0, Reason.REJECTED),
    ],
)
def test_a_failure_is_given_up_for_its_reason(make: Any, error: Exception, retries: int, reason: Reason) -> None:
    # Given a task at its nth retry
    request, ends = make(retries=retries)
    # When it raises
    request.on_failure(info(error), return_ok=True)
    # Then its message is given up, with the way to the error
    assert (ends.told, request.cause.reason) == (["given up"], reason)
    assert "Traceback" in request.cause.traceback


@pytest.mark.parametrize("error", [Ignore(), Retry("later", ValueError("x"))], ids=["ignore", "retry"])
def test_what_goes_on_elsewhere_is_no_failure(make: Any, error: Exception) -> None:
    request, ends = make()
    request.on_failure(info(error), return_ok=True)
    assert ends.told == ["acknowledged"]


@pytest.mark.parametrize(
    ("deliveries", "told"), [(0, "given back"), (DELIVERY_LIMIT - 1, "given back"), (DELIVERY_LIMIT, "given up")]
)
def test_a_lost_process_gives_its_message_back_until_the_last_delivery(make: Any, deliveries: int, told: str) -> None:
    # Given a message that was delivered so often before; the broker would bury it after the last, without a reason
    request, ends = make(**{"x-delivery-count": deliveries})
    # When its process dies
    request.on_failure(info(WorkerLostError("signal 9")), return_ok=False)
    # Then
    assert ends.told == [told]
    assert request.cause.reason == Reason.DELIVERY_LIMIT


def test_a_hard_limit_is_the_end(make: Any) -> None:
    # Given a task that does not end at its limits; Celery has told everybody that it failed, and gives it back
    request, ends = make()
    # When the hard one has passed, and the process that held it is gone
    request.on_timeout(soft=False, timeout=2)
    request.on_failure(info(WorkerLostError("signal 9")), return_ok=False)
    # Then it is given up once, for the limit
    assert (ends.told, request.cause.reason) == (["given up"], Reason.TIMEOUT)


def test_a_soft_limit_alone_decides_nothing(make: Any) -> None:
    request, ends = make()
    request.on_timeout(soft=True, timeout=1)
    assert (ends.told, request.cause) == ([], None)


def test_a_task_that_asks_to_be_given_back_is(make: Any) -> None:
    request, ends = make()
    request.on_failure(info(Reject("not now", requeue=True)), return_ok=True)
    assert ends.told == ["given back"]


@pytest.mark.parametrize(("expires", "reason"), [("2026-01-01T00:00:00+00:00", Reason.EXPIRED), (None, Reason.REVOKED)])
def test_what_is_not_run_is_given_up(make: Any, expires: str | None, reason: Reason, monkeypatch: Any) -> None:
    # Given a task that is too late, or that an operator does not want; Celery acknowledges both, and they are gone
    request, ends = make(expires=expires)
    revoked = {request.id} if expires is None else set()
    monkeypatch.setattr(module, "revoked_tasks", revoked)
    # When a worker takes it
    assert request.revoked()
    # Then it is given up, and says which
    assert (ends.told, request.cause.reason) == (["given up"], reason)
    # And one that is too late now may be replayed under its id
    assert not revoked or expires is None


def test_success_is_acknowledged(make: Any) -> None:
    request, ends = make()
    request.on_success((0, None, 0.1))
    assert (ends.told, request.cause) == (["acknowledged"], None)
