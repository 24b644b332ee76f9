"""What is asked, and the name under which its answer is kept."""

from datetime import UTC, date, datetime

from dateutil.relativedelta import relativedelta

from services.reporter.report import language_file_name
from shared.errors import InvalidArguments
from shared.signatures.reporter import GroupBy, Layout, Period, Question

#: A month is one by the calendar: before 31 March lies the last day of February.
PERIODS: dict[Period, relativedelta] = {
    "day": relativedelta(days=1),
    "week": relativedelta(days=7),
    "month": relativedelta(months=1),
}


def question(
    period: Period | None = None,
    ref_date: date | None = None,
    group_by: GroupBy = "language",
    layout: Layout = "grouped",
    per_language: bool = False,
    *,
    today: date | None = None,
) -> Question:
    """The question with everything filled in that the caller left open.

    Args:
        period: how far before `ref_date` to begin; None begins at `ref_date` itself.
        ref_date: `today` unless given.
        today: the present day in UTC unless given.

    Raises:
        InvalidArguments: no day lies a period before `ref_date`.
    """
    ref_date = ref_date or today or datetime.now(UTC).date()
    return Question(
        since=_since(period, ref_date),
        ref_date=ref_date,
        period=period,
        group_by=group_by,
        layout=layout,
        per_language=per_language,
    )


def folder(question: Question) -> str:
    """All of the question but its day, in words: `week/language/grouped`, `since/topic/per-language-table`.

    Each part takes its place whatever the others are, so different questions have different names.
    """
    layout = f"per-language-{question.layout}" if question.per_language else question.layout
    return f"{question.period or 'since'}/{question.group_by}/{layout}"


def csv_name(question: Question) -> str:
    """The report's file, relative to `REPORTS_URL`. Where each language has a file, this one is their index."""
    return f"{_stem(question)}.csv"


def manifest_name(question: Question) -> str:
    """What is known of the report, as JSON, beside it."""
    return f"{_stem(question)}.json"


def language_csv_name(question: Question, language: str) -> str:
    """The file of one language, in a folder that is called like their index without its ending."""
    return f"{_stem(question)}/{language_file_name(language)}"


def _stem(question: Question) -> str:
    return f"{folder(question)}/github-hot-repos-{question.ref_date.isoformat()}"


def _since(period: Period | None, ref_date: date) -> date:
    if period is None:
        return ref_date
    try:
        return ref_date - PERIODS[period]
    except (ValueError, OverflowError):
        raise InvalidArguments(f"No day lies a {period} before {ref_date}: give a later ref_date") from None
