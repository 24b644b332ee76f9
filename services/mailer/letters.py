"""The words of the mails that go to administrators."""

from collections.abc import Sequence
from datetime import UTC, datetime

from services.mailer.message import Mail
from services.mailer.storm import HeldBack
from shared.signatures.mailer import LONGEST_SUBJECT, LONGEST_TEXT, Window
from shared.signatures.reporter import ReportResult

#: How a digest calls its window.
_WINDOWS: dict[Window, str] = {"1h": "the last hour", "6h": "the last six hours", "day": "the last day"}
#: Languages that the mail of a report names.
MOST_LANGUAGES = 10


def error(
    event: str,
    to: tuple[str, ...],
    subject: str,
    message: str,
    html: str | None,
    source: str | None,
    seen: float,
) -> Mail:
    """A report of an error; the HTML is the program's own."""
    head = f"{source or 'A program'} at {_moment(seen)}\n\n"
    return Mail(event, "error", to, subject, (head + message)[:LONGEST_TEXT], html)


def digest(event: str, to: tuple[str, ...], window: Window, held: Sequence[HeldBack]) -> Mail:
    """What was held back, the most frequent first."""
    total = sum(line.count for line in held)
    parts = [f"Held back in {_WINDOWS[window]}: {_many(total, 'error report')} of {_many(len(held), 'fault')}.", ""]
    for line in held:
        parts += [
            f"{_many(line.count, 'time')}: {line.subject}",
            f"    first {_moment(line.first)}, last {_moment(line.last)}, fingerprint {line.fingerprint}",
        ]
    subject = f"{_many(total, 'error report')} held back in {_WINDOWS[window]}"
    return Mail(event, "digest", to, subject, "\n".join(parts) + "\n")


def report(to: tuple[str, ...], done: ReportResult) -> Mail:
    """A finished report with its CSV."""
    asked = done.question
    top = list(done.languages.items())[:MOST_LANGUAGES]
    lines = [
        f"{done.repositories} repositories, created on or after {asked.since}, in {len(done.languages)} languages.",
        "",
        *(f"{count:5} {language}" for language, count in top),
        *(["", *(f"Note: {warning}" for warning in done.warnings)] if done.warnings else []),
    ]
    subject = f"The hottest repositories of {asked.ref_date}"[:LONGEST_SUBJECT]
    return Mail(f"report:{done.name}", "report", to, subject, "\n".join(lines) + "\n", attachments=(done.name,))


def test(event: str, to: tuple[str, ...]) -> Mail:
    """To see that mail arrives."""
    return Mail(event, "test", to, "Mail works", "This mail was asked for by mailer.send_test.\n")


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds").replace("+00:00", " UTC")
