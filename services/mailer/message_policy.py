"""How the `email` library writes headers, at less cost where there is nothing to write differently.

It parses each header's value into a tree and folds that tree, which takes most of the time of a short mail. The values
that nearly every mail has come out as they went in, and those need no tree.
"""

import re
from email.policy import EmailPolicy
from functools import cache, lru_cache
from typing import Any

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOT_ATOM = rf"{_ATOM}(?:\.{_ATOM})*"
_ADDRESS = rf"{_DOT_ATOM}@{_DOT_ATOM}"
_TOKEN = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")
#: What the library would write as it is.
_AS_IT_IS = {
    "from": re.compile(_ADDRESS),
    "to": re.compile(rf"{_ADDRESS}(?:, {_ADDRESS})*"),
    "subject": re.compile(r"[!-~]+(?: [!-~]+)*"),
    "date": re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} -0000"),
    "message-id": re.compile(rf"<{_ADDRESS}>"),
    "auto-submitted": _TOKEN,
    "content-transfer-encoding": _TOKEN,
    "mime-version": re.compile(r"1\.0"),
}
#: Headers of which the library reads the tree, or has to fold it, and of which a process has few values.
_OF_FEW_VALUES = frozenset({"from", "content-type", "content-transfer-encoding"})
#: What begins a text that RFC 2047 has encoded: the library reads it.
_ENCODED = "=?"


class QuickPolicy(EmailPolicy):
    """`EmailPolicy`, to the byte."""

    def header_store_parse(self, name: str, value: Any) -> tuple[str, Any]:
        """The header as a message keeps it. Raises ValueError for a line break in it, as `EmailPolicy` does."""
        plain = _AS_IT_IS.get(name.lower())
        if plain is not None and plain.fullmatch(value) and _ENCODED not in value:
            # To the library a text without a tree was read from a mail: it writes that as it is, and folds it only
            # where the line is too long.
            return name, value
        if name.lower() in _OF_FEW_VALUES and value.isprintable():
            return name, self._remembered(name, value)
        return super().header_store_parse(name, value)

    def header_fetch_parse(self, name: str, value: Any) -> Any:
        """The header for whoever reads it from a message."""
        if name.lower() in _OF_FEW_VALUES:
            return self._remembered(name, value)
        return super().header_fetch_parse(name, value)

    def header_max_count(self, name: str) -> int | None:
        """How often a message may have this header; None where it may have any number."""
        return self._counted(name)

    @lru_cache(maxsize=64)  # noqa: B019  # of a policy, which lives as long as its process
    def _remembered(self, name: str, value: str) -> Any:
        return super().header_fetch_parse(name, value)

    @cache  # noqa: B019
    def _counted(self, name: str) -> int | None:
        return super().header_max_count(name)
