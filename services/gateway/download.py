"""A file's content over HTTP: whole, a part of it, or not at all where the reader has it already.

Source: RFC 9110, sections 13 (conditional requests) and 14 (range requests).
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import quote

from fastapi import Response

_ONE_RANGE = re.compile(r"bytes=(?:(?P<first>\d{1,18})-(?P<last>\d{1,18})?|-(?P<suffix>\d{1,18}))")


def answer(content: bytes, file_name: str, request_headers: Mapping[str, str]) -> Response:
    """The answer that gives `content` to be kept as `file_name`, as far as the request's headers want it.

    Several ranges at once are answered with the whole, as the standard allows.
    """
    tag = f'"{sha256(content).hexdigest()}"'
    headers = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        # A report can be made anew under its name: ask each time, and get a 304.
        "Cache-Control": "private, no-cache",
        "Content-Disposition": _attachment(file_name),
        "X-Content-Type-Options": "nosniff",
    }
    if _holds(request_headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    wanted = _range(request_headers.get("range"), len(content))
    if wanted is None or request_headers.get("if-range", tag) != tag:
        return Response(content, headers=headers, media_type="text/csv; charset=utf-8")
    if not wanted:
        headers["Content-Range"] = f"bytes */{len(content)}"
        return Response(status_code=416, headers=headers)
    headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{len(content)}"
    part = content[wanted.start : wanted.stop]
    return Response(part, 206, headers=headers, media_type="text/csv; charset=utf-8")


def _range(header: str | None, length: int) -> range | None:
    """The bytes that are wanted; empty where there are none such; None where all are."""
    match = _ONE_RANGE.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    if match["suffix"] is not None:
        return range(max(0, length - int(match["suffix"])), length)
    first, last = int(match["first"]), int(match["last"] or length)
    if last < first:
        return None  # not well formed, and so ignored
    return range(first, min(last + 1, length))


def _holds(header: str | None, tag: str) -> bool:
    """Whether `If-None-Match` names the tag; a proxy may have made it a weak one."""
    tags = [] if header is None else [one.strip().removeprefix("W/") for one in header.split(",")]
    return "*" in tags or tag in tags


def _attachment(file_name: str) -> str:
    """RFC 6266: in ASCII for all, in full for those who know the second form."""
    ascii_name = re.sub(r"[^ !#$&-\[\]-~]", "_", file_name)
    return f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(file_name, safe='')}"
