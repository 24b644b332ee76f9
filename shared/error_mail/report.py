"""From a log record to a report of it: what happened, where, in which request, with which values."""

import logging
import sysconfig
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import PurePath
from types import FrameType, TracebackType
from typing import Any

from shared.error_mail.masking import MASK, Masking, is_secret
from shared.error_mail.request import SHOWN_HEADERS, Request, find

#: Characters of a report. A mail program shows that many; the start and the end are what matters.
LONGEST_REPORT = 60_000
#: Characters of a subject's two parts: more than a mail program's list shows.
LONGEST_SUMMARY, LONGEST_WHERE = 140, 60
#: The innermost frames of a traceback.
MOST_FRAMES = 50
#: The innermost frames whose variables are told, how many of each, and characters of a value.
FRAMES_WITH_VALUES = 4
MOST_VALUES = 25
LONGEST_VALUE = 200
DEEPEST_VALUE = 3
#: Of a file's path: enough to find it, and equal on every host that has it elsewhere.
PATH_PARTS = 3

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def build(record: logging.LogRecord, source: str) -> dict[str, Any]:
    """The arguments of `mailer.report_error` for `record`, with its secrets masked."""
    masking = Masking()
    request = find(record)
    error = record.exc_info[1] if record.exc_info else None
    message = _message(record)
    head = [f"{record.levelname} {record.name}: {message}"]
    if request is not None:
        head += ["", *_request_lines(request, masking)]
    # The values come first, because they teach what to look for in all the rest.
    values = list(_value_lines(error, masking)) if error is not None else []
    body = [*head, "", *_traceback_lines(error), *values] if error is not None else head
    summary = _summary(error) if error is not None else message
    where = f"({request.method} {request.path.partition('?')[0]})" if request is not None else ""
    subject = one_line(masking.clean(f"[{source}] {summary}"))[:LONGEST_SUMMARY]
    return {
        "subject": f"{subject} {one_line(masking.clean(where))[:LONGEST_WHERE]}".rstrip(),
        "message": shorten(readable(masking.clean("\n".join(body)))),
        "fingerprint": fingerprint(error) if error is not None else _place(record.name, record.pathname, record.lineno),
        "source": one_line(source)[:200],
        "occurred_at": datetime.fromtimestamp(record.created, UTC).isoformat(),
    }


def fingerprint(error: BaseException) -> str:
    """Exception type, file and line: those of the innermost frame that is no library's, so that two faults that end in
    the same library are two."""
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [(frame, line) for frame, line in frames if not frame.f_code.co_filename.startswith(_LIBRARIES)]
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    if not frames:
        return one_line(name)[:200]
    frame, line = (own or frames)[-1]
    return _place(name, frame.f_code.co_filename, line)


def one_line(text: str) -> str:
    """The text as a header can hold it."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in readable(text)).split())


def readable(text: str) -> str:
    """The text without what no JSON can carry."""
    return text.encode("utf-8", "replace").decode("utf-8")


def shorten(text: str) -> str:
    """The start and the end of a text that is too long."""
    if len(text) <= LONGEST_REPORT:
        return text
    half = LONGEST_REPORT // 2
    return f"{text[:half]}\n\n… {len(text) - 2 * half} characters left out …\n\n{text[-half:]}"


def _place(what: str, path: str, line: int) -> str:
    return one_line(f"{what}:{'/'.join(PurePath(path).parts[-PATH_PARTS:])}:{line}")[-200:]


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # a record whose arguments do not fit is still an error that happened
        return f"{record.msg!r} (its arguments do not fit: {error})"


def _summary(error: BaseException) -> str:
    # A KeyError's own text would be quoted, an exception's `__str__` may raise: the traceback module knows both.
    lines = traceback.format_exception_only(type(error), error)
    return next((line for line in reversed(lines) if line.strip()), type(error).__name__)


def _request_lines(request: Request, masking: Masking) -> Iterator[str]:
    headers = masking.pairs(request.headers)
    form = masking.pairs(request.form)
    yield f"{request.method} {request.path}"
    for name, value in headers:
        if name.lower() in SHOWN_HEADERS:
            yield f"{name}: {value[:LONGEST_VALUE]}"
    if form:
        yield ""
        yield from (f"{name} = {value[:LONGEST_VALUE]!r}" for name, value in form[:MOST_VALUES])


def _traceback_lines(error: BaseException) -> Iterator[str]:
    told = traceback.TracebackException(type(error), error, error.__traceback__, limit=-MOST_FRAMES, compact=True)
    for part in told.format():
        yield part.rstrip("\n")


def _value_lines(error: BaseException, masking: Masking) -> Iterator[str]:
    frames = list(_frames(error.__traceback__))[-FRAMES_WITH_VALUES:]
    for frame, line in reversed(frames):
        yield ""
        yield f"Values in {frame.f_code.co_qualname}, {PurePath(frame.f_code.co_filename).name}:{line}"
        for name, value in list(frame.f_locals.items())[:MOST_VALUES]:
            yield f"    {name} = {_show(name, value, masking)}"


def _frames(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    yield from traceback.walk_tb(trace)


def _show(name: str, value: Any, masking: Masking, depth: int = 0) -> str:
    """A value, if it is plain: another class's `repr` may be slow, ask a database, or raise."""
    if is_secret(name):
        _remember_all(value, masking)
        return MASK
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if int.bit_length(value) < 256 else f"<int of {int.bit_length(value)} bits>"
    if type(value) in (str, bytes):
        return repr(value[:LONGEST_VALUE]) + ("…" if len(value) > LONGEST_VALUE else "")
    if isinstance(value, dict) and depth < DEEPEST_VALUE:
        return _show_dict(value, masking, depth)
    if type(value) in (list, tuple, set, frozenset) and depth < DEEPEST_VALUE:
        parts = [_show("", part, masking, depth + 1) for part in list(value)[:MOST_VALUES]]
        return f"{type(value).__name__}({', '.join(parts)}{', …' if len(value) > MOST_VALUES else ''})"[:2000]
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _show_dict(value: dict[Any, Any], masking: Masking, depth: int) -> str:
    # `dict`'s own method: a subclass, like a framework's form, may answer something else.
    items: list[tuple[Any, Any]] = list(dict.items(value))
    parts = [f"{str(key)[:80]!r}: {_show(str(key), part, masking, depth + 1)}" for key, part in items[:MOST_VALUES]]
    return f"{{{', '.join(parts)}{', …' if len(items) > MOST_VALUES else ''}}}"[:2000]


def _remember_all(value: Any, masking: Masking) -> None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        masking.remember(value)
    elif type(value) in (list, tuple):
        for part in value[:MOST_VALUES]:
            _remember_all(part, masking)
