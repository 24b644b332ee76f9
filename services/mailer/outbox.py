"""A folder in place of a mail server, for the embedded mode."""

import secrets
from collections.abc import Callable, Collection
from email.parser import BytesHeaderParser
from pathlib import Path


class Outbox:
    """Writes each mail to a file `<Message-ID>.eml`, which mail programs open. See `Transport`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(
        self, sender: str, recipients: Collection[str], message: bytes, before_end: Callable[[set[str]], None]
    ) -> dict[str, str]:
        """Write the mail; refuses nobody. Raises OSError."""
        before_end(set(recipients))
        self._folder.mkdir(parents=True, exist_ok=True)
        name = BytesHeaderParser().parsebytes(message)["Message-ID"].strip("<>")
        part = self._folder / f".{secrets.token_hex(8)}.part"
        part.write_bytes(message)
        part.replace(self._folder / f"{name}.eml")
        return {}
