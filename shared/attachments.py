"""Attachments by reference: are the files there, and small enough to be mailed?"""

from collections.abc import Iterable

from shared.errors import InvalidArguments
from shared.storage import Storage


def check(storage: Storage, names: Iterable[str], limit: int) -> None:
    """Refuse what a mail cannot carry, where the mail is submitted; the mailer asks again before it sends.

    Args:
        names: relative to the storage.
        limit: bytes of all of them together, `ATTACHMENTS_LIMIT`.

    Raises:
        InvalidArguments: one is missing, leads out of the storage, or all together are too large.
        OSError: the storage does not answer.
    """
    total = 0
    for name in names:
        try:
            size = storage.size(name)
        except ValueError as error:
            raise InvalidArguments(f"attachments: {error}") from None
        if size is None:
            raise InvalidArguments(f"attachments: {name!r:.200} is no file under REPORTS_URL: write it first")
        total += size
        if total > limit:
            raise InvalidArguments(
                f"attachments: with {name!r:.200} they have {total} bytes, but ATTACHMENTS_LIMIT is {limit}: "
                "send a link instead"
            )
