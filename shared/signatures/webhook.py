"""The task of `webhook`: outcomes by HTTP, for callers who can neither publish nor read the result store."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from shared.signatures.declaration import signature


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or url != url.strip() or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("must be a URL like https://host/path")
    if "@" in parts.netloc:
        raise ValueError("must hold no user and password: the request is signed")
    return url


CallbackUrl = Annotated[str, AfterValidator(_address), Field(max_length=2000)]


@signature("webhook.deliver")
def deliver(task_id: Annotated[str, Field(min_length=1, max_length=255)], url: CallbackUrl) -> None:
    """POST the outcome of the task `task_id` to `url`; `shared.callbacks.tell` has a task followed by this one.

    Retried with backoff where the other side cannot be reached or answers 5xx or 429; final where it answers anything
    else but 2xx, its host is not listed in `CALLBACK_HOSTS`, or its address is private.
    """
