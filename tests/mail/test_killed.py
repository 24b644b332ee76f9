"""A worker that is killed with kill -9 at each moment of a mail, and what its successor does.

The embedded mode loses the message of a killed worker, so these tests give it again under the same id, as RabbitMQ
does. With RabbitMQ itself: tests/mail/test_killed_in_the_cluster.py.
"""

import uuid
from collections.abc import Callable

import pytest

from shared.signatures import mailer as contract
from shared.signatures.mailer import Kind
from tests.mail.worker import MailerWorker
from tests.stand_ins.smtp import Act, Session, SmtpStandIn
from tests.waiting import eventually

ANN = "ann@example.org"
StartWorker = Callable[..., MailerWorker]

BEFORE = ["connect", "mail", "rcpt", "data"]


def kill_at_once(worker: MailerWorker) -> Act:
    """The worker dies while it waits for this answer."""

    def act(session: Session) -> None:
        worker.kill()

    return act


def kill_when_the_server_has_it(worker: MailerWorker, *, answer: bool) -> Act:
    """The worker dies with the mail in the server's hands: before its answer, or with the answer on the wire."""

    def act(session: Session) -> None:
        session.take()
        if answer:
            # It stops, so that the answer reaches a process that can no more write it down.
            worker.freeze()
            session.reply("250 taken")
        worker.kill()

    return act


def mails_after(
    smtp: SmtpStandIn, start_worker: StartWorker, kind: Kind, stage: str, act: Callable[[MailerWorker], Act]
) -> int:
    """How many copies the server has when a worker died, and another one got the same message to its end."""
    doomed = start_worker()
    smtp.on(stage, act(doomed))
    signature, task_id = contract.send_email([ANN], "subject", "text", kind=kind), str(uuid.uuid4())
    doomed.publish(signature, task_id)
    eventually(doomed.is_dead)
    successor = start_worker()
    successor.publish(signature, task_id)
    eventually(lambda: successor.has_finished(task_id))
    return len(smtp.mails)


@pytest.mark.parametrize("kind", ["notice", "report"])
@pytest.mark.parametrize("stage", BEFORE)
def test_killed_before_the_end_of_the_message_it_is_sent_once(
    smtp: SmtpStandIn, start_worker: StartWorker, stage: str, kind: Kind
) -> None:
    assert mails_after(smtp, start_worker, kind, stage, kill_at_once) == 1


@pytest.mark.parametrize("answer", [False, True])
def test_killed_in_doubt_at_most_once_is_at_most_one(
    smtp: SmtpStandIn, start_worker: StartWorker, answer: bool
) -> None:
    count = mails_after(
        smtp, start_worker, "notice", "end", lambda worker: kill_when_the_server_has_it(worker, answer=answer)
    )
    assert count == 1


def test_killed_in_doubt_at_most_once_may_be_none(smtp: SmtpStandIn, start_worker: StartWorker) -> None:
    # The server lost the mail too: nobody can know, and it waits for a person
    assert mails_after(smtp, start_worker, "notice", "end", kill_at_once) == 0


@pytest.mark.parametrize("answer", [False, True])
def test_killed_in_doubt_at_least_once_is_sent_again(
    smtp: SmtpStandIn, start_worker: StartWorker, answer: bool
) -> None:
    count = mails_after(
        smtp, start_worker, "report", "end", lambda worker: kill_when_the_server_has_it(worker, answer=answer)
    )
    # Twice, with one Message-ID, by which a mailbox can tell
    assert count == 2 and len({mail.message["Message-ID"] for mail in smtp.mails}) == 1


def test_killed_in_doubt_at_least_once_is_never_none(smtp: SmtpStandIn, start_worker: StartWorker) -> None:
    assert mails_after(smtp, start_worker, "report", "end", kill_at_once) == 1


@pytest.mark.parametrize("kind", ["notice", "report"])
def test_killed_after_the_record_it_is_sent_once(smtp: SmtpStandIn, start_worker: StartWorker, kind: Kind) -> None:
    # Given a worker that has sent a mail and written it down
    doomed = start_worker()
    signature, task_id = contract.send_email([ANN], "subject", "text", kind=kind), str(uuid.uuid4())
    doomed.publish(signature, task_id)
    eventually(lambda: doomed.has_finished(task_id))
    # When it dies before it has acknowledged the message, which comes again
    doomed.kill()
    successor = start_worker()
    successor.forget(task_id)
    successor.publish(signature, task_id)
    eventually(lambda: successor.has_finished(task_id))
    # Then nothing is sent
    assert len(smtp.mails) == 1
