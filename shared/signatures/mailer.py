"""The tasks of `mailer`: e-mail, and what keeps a storm of errors out of people's mailboxes."""

from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

from shared import file_names, mail_text
from shared.signatures.declaration import signature
from shared.signatures.reporter import ReportResult, Value

#: What a mail is for. It decides what happens when nobody can know whether the server has taken it:
#: `notice` is then kept back for review, all others are sent again. See docs/mail.md.
Kind = Literal["notice", "report", "error", "digest", "test"]
Window = Literal["1h", "6h", "day"]

#: Characters of a subject: with its name in front it stays under a header line's 998. Source: RFC 5322, 2.1.1.
LONGEST_SUBJECT = 900
#: Characters of a body. The broker takes messages of 16 MiB; nobody reads a mail of one.
LONGEST_TEXT = 1_000_000
MOST_RECIPIENTS = 100
MOST_ATTACHMENTS = 20


def _reference(name: str) -> str:
    file_names.check(name)
    return name


Subject = Annotated[str, AfterValidator(mail_text.one_line), Field(min_length=1, max_length=LONGEST_SUBJECT)]
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Line = Annotated[str, AfterValidator(mail_text.one_line), Field(min_length=1, max_length=200)]
Recipients = Annotated[
    list[Annotated[str, AfterValidator(mail_text.address)]],
    BeforeValidator(mail_text.addresses),
    Field(min_length=1, max_length=MOST_RECIPIENTS, description="addresses; a text is split at its commas"),
]
Attachments = Annotated[
    list[Annotated[str, AfterValidator(_reference)]],
    Field(max_length=MOST_ATTACHMENTS, description="names of files, relative to REPORTS_URL"),
]


class MailResult(Value):
    """What became of a mail, for each of its recipients.

    Attributes:
        message_id: the mail's `Message-ID`; the same at each attempt.
        sent: the server has taken it for these, at this attempt or an earlier one of the same task.
        already: another task with the same key had sent it to these before.
        refused: the server will not take it for these, and why, in its own words.
    """

    message_id: str
    sent: list[str] = Field(default_factory=list)
    already: list[str] = Field(default_factory=list)
    refused: dict[str, str] = Field(default_factory=dict)


@signature("mailer.send_email", keeps_result=True)
def send_email(
    to: Recipients,
    subject: Subject,
    text: Text,
    html: Text | None = None,
    attachments: Attachments = [],  # noqa: B006  # pydantic copies it
    kind: Kind = "notice",
    dedup_key: Line | None = None,
) -> MailResult:
    """Send one mail, once to each recipient for a `dedup_key` and `kind`; without a key, once for this task.

    A publisher that can see `REPORTS_URL` should check its files first with `shared.attachments.check`, which knows
    their sizes. Retried with backoff where the server says 4xx, cannot be reached, or breaks off before the end of the
    message; final where it says 5xx to every recipient, or an attachment is missing or too large.
    """


@signature("mailer.report_error")
def report_error(
    subject: Subject,
    message: Text,
    html_message: Text | None = None,
    fingerprint: Line | None = None,
    source: Line | None = None,
    occurred_at: AwareDatetime | None = None,
    dropped: Annotated[int, Field(ge=0)] = 0,
) -> MailResult | None:
    """Mail an error to the administrators (`ADMINS`), or hold it back for the digest: then the result is None.

    Args:
        fingerprint: equal for reports of the same fault; without it the subject's words, its numbers left out.
        source: which program tells.
        occurred_at: when the fault happened; now unless given.
        dropped: reports that the program could not keep since its last one.
    """


@signature("mailer.send_digest")
def send_digest(window: Window = "1h") -> MailResult | None:
    """Mail the administrators what was held back since the last digest of this `window`; None where nothing was."""


@signature("mailer.send_report")
def send_report(report: ReportResult) -> MailResult:
    """Mail a finished report to the administrators, its CSV attached; once for each report."""


@signature("mailer.send_test", keeps_result=True)
def send_test() -> MailResult:
    """Mail the administrators a line, to see that mail arrives."""


@signature("mailer.release")
def release(message_id: Line) -> int:
    """Let a mail be sent again that is kept back for review; then replay its dead letter. Gives how many recipients."""
