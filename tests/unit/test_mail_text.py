"""What may stand in a mail's header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mail_text import address, addresses, mailbox, one_line

BREAKS = ["\n", "\r", "\r\n", "\0", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\t", "\x7f"]


@pytest.mark.parametrize("text", ["", "hello", "Grüße aus Łódź 🎉", "a  b", "=?utf-8?q?x?="])
def test_a_line_is_taken_as_it_is(text: str) -> None:
    assert one_line(text) == text


@pytest.mark.parametrize("sign", BREAKS)
def test_whatever_breaks_a_line_is_refused(sign: str) -> None:
    for text in (f"a{sign}b", f"{sign}a", f"a{sign}"):
        with pytest.raises(ValueError, match="must have no line break"):
            one_line(text)


@given(st.text())
def test_what_is_taken_is_one_line_for_everybody(text: str) -> None:
    try:
        one_line(text)
    except ValueError:
        return
    assert len(text.splitlines()) <= 1 and "\0" not in text


@pytest.mark.parametrize(
    ("given_", "taken"),
    [
        ("ann@example.org", "ann@example.org"),
        ("Ann.Lee+news@EXAMPLE.Org", "Ann.Lee+news@example.org"),
        ("admin@localhost", "admin@localhost"),
        (" ann@example.org ", "ann@example.org"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("o'neil@example.org", "o'neil@example.org"),
    ],
)
def test_an_address_is_taken_in_one_spelling(given_: str, taken: str) -> None:
    assert address(given_) == taken


@pytest.mark.parametrize(
    "text",
    [
        "", "@", "ann", "ann@", "@example.org", "ann@@example.org", "ann lee@example.org", "ann@exa mple.org",
        "Ann <ann@example.org>", "ann@example.org, bob@example.org", "ann@example.org\r\nBcc: eve@example.org",
        ".ann@example.org", "ann.@example.org", "a..b@example.org", '"ann lee"@example.org', "ann@-example.org",
        "ann@example..org", "ann@.org", "ann@[127.0.0.1]", "änn@example.org", "ann@example.org>",
        "a" * 65 + "@example.org", "ann@" + "a" * 64 + ".org", "ann@" + "a." * 130 + "org",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must (be an address|have no line break)"):
        address(text)


def test_a_sender_may_have_a_name() -> None:
    assert mailbox("House of Tasks <House@Example.ORG>") == "House of Tasks <House@example.org>"
    assert mailbox("house@example.org") == "house@example.org"
    with pytest.raises(ValueError, match="must be an address"):
        mailbox("House of Tasks")


def test_a_list_is_split_at_its_commas() -> None:
    assert addresses("a@b, c@d,,") == ["a@b", "c@d"]
    assert addresses(["a@b"]) == ["a@b"]
