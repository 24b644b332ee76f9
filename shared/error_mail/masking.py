"""What must not leave the program: values that carry the name of a secret, wherever they show up again."""

import html
import re
from collections.abc import Iterable

MASK = "********"
#: Shorter values are not looked for in the rest of a report: `no` is the password of somebody, and half of every text.
SHORTEST_SOUGHT = 5

_WORD = (
    r"pass(?!ive)|pwd|secret|token|credential|api_?-?key|private|auth(?!ors?(?:[^a-z]|$))|cookie|session|csrf|"
    r"signature|card|cvv|iban"
)
_NAME = re.compile(rf"{_WORD}|[_-]key\b|^pin$", re.IGNORECASE)
_QUOTED = r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\""
#: `password=x`, `password = 'x'`, `'password': 'x'`.
_ASSIGNED = re.compile(
    rf"(?P<name>[\w-]*(?:{_WORD}|[_-]key)[\w-]*)(?P<sign>\s*=(?!=)\s*|['\"]\s*:\s*)(?P<value>{_QUOTED}|[^\s'\"&,;)}}\]]+)",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"\b(Bearer|Basic|Digest)\s+[\w.~+/=-]{6,}", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*):[^/\s@]+@")


def is_secret(name: str) -> bool:
    """Whether something of this name is not for a mailbox."""
    return _NAME.search(name) is not None


class Masking:
    """Masks the secrets of one report, and remembers their values to find them elsewhere in it."""

    def __init__(self) -> None:
        self._sought: set[str] = set()

    def remember(self, value: str) -> None:
        """Look for this secret in the whole report."""
        if len(value) >= SHORTEST_SOUGHT:
            self._sought |= {value, html.escape(value), repr(value)[1:-1]}

    def pairs(self, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """The pairs with the values of secret names masked, and remembered."""
        masked = []
        for name, value in pairs:
            if is_secret(name):
                self.remember(value)
                value = MASK
            masked.append((name, value))
        return masked

    def remember_assigned(self, text: str) -> None:
        """Remember what stands in `text` as the value of a secret name, like `password = 'x'`."""
        for found in _ASSIGNED.finditer(text):
            value = found["value"]
            if value[0] in "'\"":
                self.remember(value[1:-1])

    def clean(self, text: str) -> str:
        """The text without any secret that is known, or stands beside its name."""
        for value in sorted(self._sought, key=len, reverse=True):
            text = text.replace(value, MASK)
        text = _ASSIGNED.sub(rf"\g<name>\g<sign>{MASK}", text)
        text = _SCHEME.sub(rf"\1 {MASK}", text)
        return _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
