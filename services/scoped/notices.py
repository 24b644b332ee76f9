"""What a notice says, in English; the catalogues have the other languages."""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from services.scoped.languages import Language
from shared.errors import InvalidArguments
from shared.signatures.declaration import explain


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReportReady(_Facts):
    """A report was made, and has so many repositories."""

    repositories: NonNegativeInt
    ref_date: date


class QuotaLow(_Facts):
    """So many more reports may be asked for."""

    left: NonNegativeInt
    until: date


def _report_ready(facts: ReportReady, language: Language) -> tuple[str, str]:
    subject = language.say("Your report of {date} is ready")
    text = language.count(
        "The report lists {count} repository.", "The report lists {count} repositories.", facts.repositories
    )
    values = {"date": language.date(facts.ref_date), "count": language.number(facts.repositories)}
    return subject.format(**values), text.format(**values)


def _quota_low(facts: QuotaLow, language: Language) -> tuple[str, str]:
    subject = language.say("Few reports are left")
    text = language.count(
        "You can ask for {count} more report until {date}.",
        "You can ask for {count} more reports until {date}.",
        facts.left,
    )
    return subject, text.format(date=language.date(facts.until), count=language.number(facts.left))


_EVENTS: Mapping[str, tuple[type[_Facts], Callable[[Any, Language], tuple[str, str]]]] = {
    "report_ready": (ReportReady, _report_ready),
    "quota_low": (QuotaLow, _quota_low),
}


def render(event: str, facts: Mapping[str, Any], language: Language) -> tuple[str, str]:
    """Subject and text of the notice of `event`.

    Raises:
        InvalidArguments: a fact is missing, unknown or of another kind.
    """
    kind, write = _EVENTS[event]
    try:
        checked = kind.model_validate(dict(facts))
    except ValidationError as error:
        raise InvalidArguments(explain(f"scoped.notify, {event}", error)) from None
    subject, text = write(checked, language)
    return subject, f"{text}\n"
