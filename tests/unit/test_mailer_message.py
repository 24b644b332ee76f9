"""The mail on the wire."""

import email
import email.policy
import random
from email.message import EmailMessage
from email.policy import EmailPolicy
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from services.mailer import message
from services.mailer.message import Attachment, Mail, encode, message_id
from shared.signatures.mailer import Subject

SENDER = "House <house@example.org>"
HEADERS = {
    "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
    "Content-Transfer-Encoding",
}  # fmt: skip
subjects = TypeAdapter(Subject)
#: What the library has to think about: in any order, and often at a place where a line ends.
PIECES = [
    "a", "word", " ", "  ", "\t", ":", ",", ";", '"', "(", ")", "<", ">", "@", "\\", "=", "?=", "=?", "=?utf-8?q?a?=",
    "=20", ".", "..", "-", "_", "From ", "\n", "\r\n", "\r", "\n.", "\n..\n", "\nFrom x\n", "\x00", "\x0b", "\x0c",
    "\x1c", "\x85", "\u2028", "\x7f", "é", "Łódź", "日本", "🙂", "\ud800", "x" * 30, "x" * 78, "x" * 998, "word " * 16,
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(max_size=120)
ascii_lines = st.text("".join(map(chr, range(32, 127))), max_size=150)
atoms = st.text("abzABZ019!#$%&'*+/=?^_`{|}~-", min_size=1, max_size=12)
domains = st.lists(st.text("abz019-", min_size=1, max_size=20), min_size=1, max_size=4).map(".".join)
addresses = st.builds("{}@{}".format, st.lists(atoms, min_size=1, max_size=3).map(".".join), domains)
subjects_that_fold = st.lists(st.text('ab:,=?<>"()@', max_size=90), max_size=30).map(" ".join)
DATE = "Fri, 02 Jan 2026 03:04:05 -0000"
NAMES = ["a/x.csv", "y.bin", "z.txt", "ä.csv", 'a "b".txt', "long name " * 9 + ".png"]
anything = st.sampled_from(
    ["", "ann", "a@b@c", "a..b@c", ".a@b", "a@b.", "Ann <a@b>", '"a b"@c', "ä@b", "a@ü", "a@b\n"]
)


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


def outcome(mail: Mail, sender: str, attachments: list[Attachment], policy: Any) -> bytes | type[Exception]:
    """The mail as `policy` writes it, or what it raises; nothing in it depends on the time or on chance."""
    random.seed(0)
    with patch.object(message, "_POLICY", policy), patch.object(message, "formatdate", lambda: DATE):
        try:
            return encode(mail, sender, attachments)
        except Exception as error:
            return type(error)


def as_the_library(mail: Mail, sender: str = SENDER, attachments: list[Attachment] | None = None) -> bool:
    parts = (mail, sender, attachments or [])
    library = email.policy.SMTP.clone(cte_type="7bit")
    # Twice: what was kept of the first mail does not change the second
    return [outcome(*parts, message._POLICY) for _ in range(2)] == [outcome(*parts, library)] * 2


@settings(max_examples=300, deadline=None)
@given(ascii_lines | texts | subjects_that_fold)
@example("")
@example(" a")
@example("a ")
@example("a\n")
@example("a\nBcc: eve@example.org")
def test_a_subject_is_as_the_library_writes_it(subject: str) -> None:
    assert as_the_library(mail(subject=subject))


@settings(max_examples=300, deadline=None)
@given(texts | ascii_lines | st.lists(ascii_lines, max_size=15).map("\n".join))
@example("")
@example("x" * 79)
@example("\n".join(["x" * 20] * 12 + ["x" * 999]))
def test_a_text_is_as_the_library_writes_it(text: str) -> None:
    assert as_the_library(mail(text=text))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(addresses, min_size=1, max_size=6) | st.lists(addresses | anything | texts, max_size=3),
    addresses | st.builds("House <{}>".format, addresses) | st.builds("{} <{}>".format, texts, addresses) | texts,
)
@example([f"ann{number}@example.org" for number in range(100)], "house@example.org")
@example(["=?utf-8?q?a?=@example.org"], "house@example.org")
@example(["ann@example.org\n"], "house@example.org\nBcc: eve@example.org")
def test_addresses_are_as_the_library_writes_them(to: list[str], sender: str) -> None:
    assert as_the_library(mail(to=tuple(to)), sender)


@settings(max_examples=100, deadline=None)
@given(texts, texts | st.none(), st.lists(st.builds(Attachment, st.sampled_from(NAMES), st.binary(max_size=90))))
def test_all_its_parts_are_as_the_library_writes_them(
    text: str, html: str | None, attachments: list[Attachment]
) -> None:
    assert as_the_library(mail(text=text, html=html), SENDER, attachments)


@pytest.mark.parametrize("header", ["subject", "to"])
def test_a_line_break_in_a_header_is_refused(header: str) -> None:
    value = "ann@example.org\nBcc: eve@example.org"
    with pytest.raises(ValueError, match="linefeed"):
        encode(mail(**{header: value if header == "subject" else (value,)}), SENDER)


def test_the_usual_headers_are_not_taken_apart() -> None:
    # Given a mail of which every header but the To has been written before
    encode(mail(), SENDER)
    # When one goes to somebody else
    with patch.object(EmailPolicy, "header_store_parse", side_effect=AssertionError) as parsed:
        encode(mail(to=("bob@example.org",), subject="Another subject: 2", event="f"), SENDER)
    # Then no header's value was parsed
    parsed.assert_not_called()


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
