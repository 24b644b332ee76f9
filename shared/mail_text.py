"""What may stand in an e-mail's header: pure checks, for settings and for signatures alike."""

import re
import unicodedata
from email.utils import formataddr, parseaddr

#: Octets before and after the @. Source: RFC 5321, 4.5.3.1.
LONGEST_LOCAL_PART = 64
LONGEST_DOMAIN = 255

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL_PART = re.compile(rf"{_ATOM}(\.{_ATOM})*")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def one_line(value: str) -> str:
    """`value` as it is: a header's text.

    Raises:
        ValueError: it has a line break or a control character, by which one header becomes two.
    """
    for character in value:
        # Python, and some mail servers, break lines at more than CR and LF.
        if unicodedata.category(character) in ("Cc", "Zl", "Zp"):
            raise ValueError(f"must have no line break and no control character, but has {character!a}")
    return value


def address(value: str) -> str:
    """`value` with its domain in lower case and ASCII, so that two spellings of one mailbox are equal.

    Raises:
        ValueError: it is no plain `name@domain`. Quoted names and names beyond ASCII, which many servers refuse, are
            not taken.
    """
    local, at, domain = one_line(value).strip().rpartition("@")
    if not at or not _LOCAL_PART.fullmatch(local) or len(local) > LONGEST_LOCAL_PART:
        raise ValueError("must be an address like ann@example.org")
    try:
        domain = domain.encode("idna").decode().lower()
    except UnicodeError:
        raise ValueError("must be an address like ann@example.org: its domain is none") from None
    if len(domain) > LONGEST_DOMAIN or not all(_LABEL.fullmatch(label) for label in domain.split(".")):
        raise ValueError("must be an address like ann@example.org: its domain is none")
    return f"{local}@{domain}"


def mailbox(value: str) -> str:
    """`value` as an address that may have a name before it: `Ann <ann@example.org>`.

    Raises:
        ValueError: as `address`.
    """
    name, plain = parseaddr(one_line(value))
    return formataddr((name, address(plain)))


def addresses(value: object) -> object:
    """The addresses that a comma splits; what is no text is left to the type."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
