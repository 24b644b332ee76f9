"""A mail as a value, and as the bytes that go over the wire."""

import mimetypes
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from functools import lru_cache
from pathlib import PurePosixPath

from services.mailer.ledger import event_hash
from services.mailer.message_policy import QuickPolicy
from shared.signatures.mailer import Kind

#: SMTP's line ends, and 7 bits: every server takes it, also one without 8BITMIME.
_POLICY = QuickPolicy(linesep="\r\n", cte_type="7bit")


@dataclass(frozen=True)
class Attachment:
    """A file inside a mail."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Mail:
    """What is to be sent.

    Attributes:
        event: what the mail is about, once for each of `to` and `kind`: a dedup key, or the task's id.
        attachments: names of files, relative to `REPORTS_URL`.
    """

    event: str
    kind: Kind
    to: tuple[str, ...]
    subject: str
    text: str
    html: str | None = None
    attachments: tuple[str, ...] = field(default=())


def message_id(mail: Mail, sender: str) -> str:
    """The mail's `Message-ID`: equal at every attempt, so that a mailbox can tell a second copy."""
    return f"<{event_hash(mail.event, mail.kind)}@{_domain(sender)}>"


def encode(mail: Mail, sender: str, attachments: Iterable[Attachment] = ()) -> bytes:
    """The mail as RFC 5322 bytes with CRLF, in 7 bits."""
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender
    message["To"] = ", ".join(mail.to)
    message["Subject"] = mail.subject
    message["Date"] = formatdate()
    message["Message-ID"] = message_id(mail, sender)
    # So that vacation notices do not answer. Source: RFC 3834.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    if mail.html is not None:
        message.add_alternative(mail.html, subtype="html")
    for attachment in attachments:
        guessed = mimetypes.guess_type(attachment.name)[0] or "application/octet-stream"
        kind, _, subtype = guessed.partition("/")
        name = PurePosixPath(attachment.name).name
        message.add_attachment(attachment.content, maintype=kind, subtype=subtype, filename=name)
    return message.as_bytes()


# A process has one sender.
@lru_cache(maxsize=8)
def _domain(sender: str) -> str:
    return parseaddr(sender)[1].rpartition("@")[2]
