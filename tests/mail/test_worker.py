"""The whole service: a real worker without a broker, and a mail server that does as it is told."""

import email
import email.policy
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.signatures import mailer as contract
from shared.signatures.mailer import MailResult
from shared.signatures.reporter import Question, ReportResult
from shared.storage import Storage
from tests.mail.worker import MailerWorker
from tests.stand_ins.smtp import CLOSE, HANG, Act, SmtpStandIn
from tests.waiting import eventually

StartWorker = Callable[..., MailerWorker]
ANN, BOB = "ann@example.org", "bob@example.org"


def test_a_mail_is_sent_and_the_answer_says_to_whom(smtp: SmtpStandIn, start_worker: StartWorker) -> None:
    worker = start_worker()
    smtp.on(f"rcpt:{BOB}", "550 5.1.1 no such user")
    # When somebody asks for a mail in a language of their own
    answer = worker.result(contract.send_email([ANN, BOB], "Grüße aus Łódź", "Ça va ?\n", html="<p>Ça va ?</p>"))
    # Then the answer has every recipient, with the server's words
    result = MailResult.model_validate(answer)
    assert (result.sent, result.refused) == ([ANN], {BOB: "550 5.1.1 no such user"})
    # And the mail reads as it was written
    message = smtp.mails[0].message
    assert (message["Subject"], smtp.mails[0].text) == ("Grüße aus Łódź", "Ça va ?\n")
    assert message["Message-ID"] == result.message_id


@pytest.mark.parametrize(
    ("stage", "act"), [("mail", "451 later"), ("connect", "421 busy"), ("data", CLOSE), ("mail", HANG)]
)
def test_what_may_pass_is_tried_again(smtp: SmtpStandIn, start_worker: StartWorker, stage: str, act: Act) -> None:
    worker = start_worker()
    smtp.on(stage, act)
    answer = worker.result(contract.send_email([ANN], "subject", "text"))
    assert answer["sent"] == [ANN] and len(smtp.mails) == 1


def test_what_is_refused_for_good_fails_with_the_servers_words(smtp: SmtpStandIn, start_worker: StartWorker) -> None:
    worker = start_worker()
    smtp.on("mail", "550 5.7.1 you are on a list")
    with pytest.raises(Exception, match=r"550 5\.7\.1 you are on a list"):
        worker.result(contract.send_email([ANN], "subject", "text"))
    # And it is tried once
    assert len(smtp.sessions) == 1


def test_arguments_of_a_publisher_that_checks_nothing_are_refused(smtp: SmtpStandIn, start_worker: StartWorker) -> None:
    # Given a publisher with another idea of the task
    worker = start_worker()
    signature = contract.send_email([ANN], "subject", "text")
    signature.kwargs["subject"] = "subject\r\nBcc: everybody@example.org"
    with pytest.raises(Exception, match=r"subject: .* must have no line break"):
        worker.result(signature)
    assert smtp.sessions == []


def test_a_finished_report_is_mailed_once_with_its_file(
    smtp: SmtpStandIn, start_worker: StartWorker, tmp_path: Path
) -> None:
    # Given a report in the storage
    worker = start_worker(ADMINS="admin@example.org,chief@example.org")
    stored = Storage(str(tmp_path / "house" / "reports")).write("day/report-2026-11-20.csv", b"C,a/b\r\n")
    report = ReportResult(
        name=stored.name,
        url=stored.url,
        rows=1,
        bytes=stored.bytes,
        sha256=stored.sha256,
        question=Question.model_validate({"since": "2026-11-19", "ref_date": "2026-11-20", "period": "day"}),
        repositories=1,
        languages={"C": 1},
        seconds=1.0,
    )
    # When two beats have asked for it
    for _ in range(2):
        worker.publish(contract.send_report(report))
    # Then each administrator gets one mail with the CSV
    mail = smtp.wait_for_mails(1)[0]
    assert mail.recipients == ["admin@example.org", "chief@example.org"]
    attached = next(iter(mail.message.iter_attachments()))
    assert (attached.get_filename(), attached.get_payload(decode=True)) == ("report-2026-11-20.csv", b"C,a/b\r\n")
    assert worker.result(contract.send_test())["sent"]
    assert len(smtp.mails) == 2


def test_equal_errors_make_one_mail_and_a_digest_with_the_count(smtp: SmtpStandIn, start_worker: StartWorker) -> None:
    # Given 500 reports of one fault and a few of others, more than an hour's cap
    worker = start_worker(ERRORS_PER_HOUR="3")
    for _ in range(490):
        worker.publish(contract.report_error("division by zero", "traceback", fingerprint="ZeroDivisionError:app.py:3"))
    for number in range(10):
        worker.publish(contract.report_error(f"fault {number}", "traceback", fingerprint=f"fault:{number}"))
    # When all have been worked through
    eventually(lambda: worker.waiting() == 0, patience=120)
    worker.publish(contract.send_digest("1h"))
    # Then no more mails went out than the cap allows
    eventually(lambda: any("held back" in mail.message["Subject"] for mail in smtp.mails))
    errors = [mail for mail in smtp.mails if "held back" not in mail.message["Subject"]]
    digest = next(mail for mail in smtp.mails if mail not in errors)
    assert len(errors) == 3
    # And the digest tells of all the others
    assert digest.message["Subject"] == "497 error reports held back in the last hour"
    assert "489 times: division by zero" in digest.text


def test_without_a_mail_server_mail_lies_in_a_folder(start_worker: StartWorker, tmp_path: Path) -> None:
    worker = start_worker(SMTP_URL="")
    answer = worker.result(contract.send_email([ANN], "Grüße", "text", dedup_key="k"))
    files = list((tmp_path / "house" / "mail").glob("*.eml"))
    assert [f"<{file.stem}>" for file in files] == [answer["message_id"]]
    assert email.message_from_bytes(files[0].read_bytes(), policy=email.policy.default)["Subject"] == "Grüße"
    # And once for its key
    assert worker.result(contract.send_email([ANN], "Grüße", "text", dedup_key="k"))["already"] == [ANN]
