"""Mail on the shipped compose file, in the catcher: from an operator, a program and the midnight schedule."""

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from services.scoped.languages import Language
from tests.e2e.houses import ComposeHouse

pytestmark = pytest.mark.containers

#: Seconds that a mail may take.
PATIENCE = 60


class Inbox:
    """The mail catcher, through its API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/email"

    def empty(self) -> None:
        """Throw every mail away."""
        request = urllib.request.Request(f"{self._url}/all", method="DELETE")
        urllib.request.urlopen(request, timeout=10).close()

    def mails(self) -> list[dict[str, Any]]:
        """Every mail, oldest first."""
        with urllib.request.urlopen(self._url, timeout=10) as answer:
            return list(json.load(answer))

    def wait(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first mail that is wanted, as soon as it is there."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for mail in self.mails():
                if wanted(mail):
                    return mail
            time.sleep(0.2)
        raise AssertionError(f"no such mail after {PATIENCE} s, but {[mail['subject'] for mail in self.mails()]}")


@pytest.fixture
def inbox(compose: ComposeHouse) -> Inbox:
    """The catcher, without a mail."""
    inbox = Inbox(compose.ports["MAIL_PORT"])
    inbox.empty()
    return inbox


def test_an_operator_sees_that_mail_arrives(compose: ComposeHouse, inbox: Inbox) -> None:
    done = compose.celery("call", "mailer.send_test")
    assert done.returncode == 0, done.stderr
    mail = inbox.wait(lambda mail: mail["subject"] == "Mail works")
    assert [to["address"] for to in mail["to"]] == ["admin@localhost"]


def test_the_midnight_report_reaches_the_administrators_as_an_attachment(compose: ComposeHouse, inbox: Inbox) -> None:
    # When beat's tick of midnight comes, as it lies in Redis: its container, its user, its entry. It asks for another
    # period, because a report is mailed once, and the day's own may have been by now.
    script = (
        "from redbeat import RedBeatSchedulerEntry\n"
        "from shared.app import app\n"
        "from shared.beat import Scheduler\n"
        "entry = RedBeatSchedulerEntry.from_key('redbeat:reporter.produce_report@0 0 * * *', app=app)\n"
        "entry.kwargs = {**entry.kwargs, 'period': 'month'}\n"
        "Scheduler(app=app, lazy=True).apply_async(entry, advance=False)\n"
    )
    done = compose.compose("exec", "-T", "beat", "python", "-c", script)
    assert done.returncode == 0, done.stderr
    # Then the report is made, and mailed with its CSV
    mail = inbox.wait(lambda mail: "hottest repositories" in mail["subject"])
    assert [file["fileName"].endswith(".csv") for file in mail["attachments"]] == [True]
    assert "500 repositories" in mail["text"]


def test_a_programs_error_arrives_through_the_queue(compose: ComposeHouse, inbox: Inbox) -> None:
    # Given a program with the handler in its logging, and nothing else
    script = (
        "import logging.config\n"
        "logging.config.dictConfig({'version': 1, 'root': {'handlers': ['mail']}, 'handlers': {\n"
        "    'mail': {'class': 'shared.error_mail.ErrorMailHandler', 'source': 'shop', 'spool': '/tmp/spool'}}})\n"
        "password = 'correct-horse-battery'\n"
        "try:\n"
        "    1 / (len(password) * 0)\n"
        "except ZeroDivisionError:\n"
        "    logging.exception('the till is broken')\n"
    )
    # When it breaks
    done = compose.publisher(script)
    assert done.returncode == 0, done.stderr
    # Then the administrators have it, without what is secret
    mail = inbox.wait(lambda mail: mail["subject"] == "[shop] ZeroDivisionError: division by zero")
    assert "the till is broken" in mail["text"] and "correct-horse" not in mail["text"]


def test_one_key_is_one_mail_on_many_workers(compose: ComposeHouse, inbox: Inbox) -> None:
    # When many tasks ask for the same mail, and a last one for another
    script = (
        "from shared.app import app\n"
        "from shared.signatures import mailer\n"
        "same = [mailer.send_email(['ann@example.org'], 'same', 'text', dedup_key='k') for _ in range(40)]\n"
        "answers = [one.apply_async() for one in same]\n"
        "results = [answer.get(timeout=60) for answer in answers]\n"
        "print(sum(bool(result['sent']) for result in results), sum(bool(result['already']) for result in results))\n"
    )
    done = compose.publisher(script)
    # Then one of them has sent it, and the others know
    assert done.stdout.split() == ["1", "39"], done.stderr
    assert len([mail for mail in inbox.mails() if mail["subject"] == "same"]) == 1


def test_a_notice_asked_for_in_two_languages_is_two_mails(compose: ComposeHouse, inbox: Inbox) -> None:
    # When a program asks the gateway for the same notice, once for a French reader and once for a Japanese one
    url = f"http://127.0.0.1:{compose.ports['GATEWAY_PORT']}/notifications"
    notice = {"user": "ann@example.org", "event": "quota_low", "facts": {"left": 2, "until": "2026-12-01"}}
    for header in ("fr-CH, en;q=0.5", "ja"):
        headers = {"Content-Type": "application/json", "Accept-Language": header}
        request = urllib.request.Request(url, json.dumps(notice).encode(), headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 202

    # Then each has a mail in that language
    for tag in ("fr", "ja"):
        subject = Language.best(tag).say("Few reports are left")
        mail = inbox.wait(lambda mail, subject=subject: mail["subject"] == subject)  # type: ignore[misc]
        assert [to["address"] for to in mail["to"]] == ["ann@example.org"]
    assert len(inbox.mails()) == 2
