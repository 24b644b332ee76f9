"""The mail on the wire."""

import email
import email.policy
from email.message import EmailMessage

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from services.mailer.message import Attachment, Mail, encode, message_id
from shared.signatures.mailer import Subject

SENDER = "House <house@example.org>"
HEADERS = {
    "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
    "Content-Transfer-Encoding",
}  # fmt: skip
subjects = TypeAdapter(Subject)


def mail(**changes: object) -> Mail:
    return Mail(**{"event": "e", "kind": "notice", "to": ("ann@example.org",), "subject": "s", "text": "t", **changes})  # type: ignore[arg-type]


def read(data: bytes) -> EmailMessage:
    parsed = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def test_it_is_seven_bits_with_crlf() -> None:
    data = encode(mail(subject="Łódź", text="Grüße\n" + "x" * 5000), SENDER)
    assert data.isascii() and b"\n" not in data.replace(b"\r\n", b"")
    assert all(len(line) <= 998 for line in data.split(b"\r\n"))


@given(st.text(max_size=300))
def test_no_subject_makes_a_header_of_its_own(subject: str) -> None:
    # Given any subject that a signature takes
    try:
        subjects.validate_python(subject)
    except ValidationError:
        return
    # Then the mail has the headers that it should have, and the subject's words
    message = read(encode(mail(subject=subject), SENDER))
    assert set(message.keys()) == HEADERS
    assert "".join(str(message["Subject"]).split()) == "".join(subject.split())


def test_all_its_parts_arrive() -> None:
    data = encode(
        mail(text="text\n", html="<p>html</p>"),
        SENDER,
        [Attachment("a/b/x.csv", b"1\r\n"), Attachment("y.bin", b"\0\xff")],
    )
    message = read(data)
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None and plain.get_content().strip() == "text"
    assert html is not None and html.get_content().strip() == "<p>html</p>"
    attached = [(part.get_filename(), part.get_payload(decode=True)) for part in message.iter_attachments()]
    assert attached == [("x.csv", b"1\r\n"), ("y.bin", b"\0\xff")]


def test_the_message_id_follows_from_event_and_kind_alone() -> None:
    same = {message_id(mail(to=(name,), text=name), SENDER) for name in ("ann@example.org", "bob@example.org")}
    assert len(same) == 1 and next(iter(same)).endswith("@example.org>")
    assert len({message_id(mail(event=event, kind=kind), SENDER) for event in "ab" for kind in ("notice", "test")}) == 4


def test_machines_do_not_answer_it() -> None:
    assert read(encode(mail(), SENDER))["Auto-Submitted"] == "auto-generated"
