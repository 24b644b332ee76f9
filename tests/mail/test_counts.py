"""What the mailer counts is what the mail server saw."""

from collections import Counter

import pytest

from shared.signatures import mailer as contract
from tests.mail.cluster import Cluster
from tests.stand_ins.smtp import SmtpStandIn
from tests.waiting import eventually

pytestmark = pytest.mark.containers

NOTICES, REPEATED, ERRORS, LATER, REFUSED = 20, 6, 30, 3, 2
NOBODY = "nobody@example.org"


def test_each_mail_is_counted_by_what_became_of_it(cluster: Cluster, smtp: SmtpStandIn) -> None:
    # Given a mail server that puts off three mails, and knows somebody not
    smtp.on("mail", *["451 later"] * LATER)
    cluster.send(contract.send_email([f"{number}@example.org"], "notice", "text") for number in range(NOTICES))
    eventually(lambda: Counter(_subjects(smtp))["notice"] == NOTICES)
    smtp.on(f"rcpt:{NOBODY}", *["550 no such user"] * REFUSED)
    cluster.send(contract.send_email([NOBODY], "refused", "text") for _ in range(REFUSED))
    # And mails with one key, errors of one fault, and the digest that tells of those held back
    once = contract.send_email(["a@example.org"], "once", "text", dedup_key="key")
    cluster.send([once])
    # One that comes while the first is on its way is put off, and not known as sent before.
    eventually(lambda: cluster.mails()["notice", "sent"] == NOTICES + 1)
    cluster.send([once] * (REPEATED - 1))
    cluster.send(contract.report_error("fault", "traceback", fingerprint="fault") for _ in range(ERRORS))
    done = REPEATED - 1 + ERRORS - 1
    eventually(lambda: sum(cluster.mails()[kind, what] for kind, what in _QUIET) == done)
    eventually(lambda: cluster.dead_letters() == REFUSED)
    cluster.send([contract.send_digest("1h")])
    eventually(lambda: any("held back" in subject for subject in _subjects(smtp)))
    # Then what is counted is what the server saw, and what was published and it did not see
    seen = Counter(_subjects(smtp))
    (digest,) = [mail for mail in smtp.mails if "held back" in mail.message["Subject"]]
    assert digest.message["Subject"].startswith(f"{ERRORS - 1} error reports")
    expected = {
        ("notice", "sent"): seen["notice"] + seen["once"],
        ("notice", "already"): REPEATED - seen["once"],
        ("notice", "deferred"): LATER,
        ("notice", "failed"): REFUSED,
        ("error", "sent"): len(smtp.mails) - seen["notice"] - seen["once"] - 1,
        ("error", "held"): ERRORS - 1,
        ("digest", "sent"): 1,
    }
    eventually(lambda: {key: count for key, count in cluster.mails().items() if count} == expected)
    assert (seen["once"], expected["error", "sent"]) == (1, 1)


#: What the server sees nothing of.
_QUIET = (("notice", "already"), ("error", "held"))


def _subjects(smtp: SmtpStandIn) -> list[str]:
    return [str(mail.message["Subject"]) for mail in list(smtp.mails)]
