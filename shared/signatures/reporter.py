"""The tasks of `reporter`: reports of the hottest GitHub repositories."""

from datetime import UTC, date, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from shared.signatures.declaration import signature

Period = Literal["day", "week", "month"]
GroupBy = Literal["language", "topic"]
Layout = Literal["grouped", "table"]


def _not_in_the_future(value: date) -> date:
    if value > datetime.now(UTC).date():
        raise ValueError("must not lie after today (UTC)")
    return value


def _written_as_a_day(value: object) -> object:
    # pydantic takes a number for seconds since 1970; nobody who gives one means that.
    if isinstance(value, int | float):
        raise ValueError("must be a day, YYYY-MM-DD")
    return value


PastDate = Annotated[date, BeforeValidator(_written_as_a_day), AfterValidator(_not_in_the_future)]
PageSize = Annotated[int, Field(ge=1, le=100, description="repositories a page; GitHub gives at most 100")]
PageNumber = Annotated[int, Field(ge=1, le=1000, description="counted from 1")]


class Value(BaseModel):
    """A value that travels between tasks: unknown fields are ignored, because the other side may be newer."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Repo(Value):
    """What a report needs of a repository, and no more. Source: GitHub REST API, search/repositories."""

    full_name: str
    url: str
    stars: int
    forks: int = 0
    language: str | None = None
    description: str | None = None
    topics: list[str] = []
    created_at: datetime | None = None


class Page(Value):
    """One page of a search.

    Attributes:
        number: counted from 1.
        repos: at most as many as were asked for; none where the search has no more.
        incomplete: GitHub ran out of time and gave what it had found by then.
    """

    number: int
    repos: list[Repo]
    incomplete: bool = False


class Question(Value):
    """What a report answers. Two equal questions have one answer, so a report is stored under its question.

    Attributes:
        since: repositories created on or after this day.
        ref_date: the day that the report is for; it is in the file's name.
        period: the time before `ref_date` that `since` was counted from; None where `since` is `ref_date`.
    """

    since: date
    ref_date: date
    period: Period | None = None
    group_by: GroupBy = "language"
    layout: Layout = "grouped"
    per_language: bool = False


class WrittenFile(Value):
    """A file of a report that was written whole.

    Attributes:
        name: relative to `REPORTS_URL`.
        url: absolute, for whoever reads it.
        rows: lines, the header not counted.
        bytes: its size.
        sha256: of its content, in hexadecimal.
        group: the language that the file is about, where each has its own.
    """

    name: str
    url: str
    rows: int
    bytes: int
    sha256: str
    group: str | None = None


class ReportResult(WrittenFile):
    """The answer to a question.

    Attributes:
        repositories: how many distinct repositories stand in it.
        languages: how many of them each language has, the largest first; `unknown` where GitHub has none.
        seconds: from the moment the report was asked for until it was written.
        files: one a language, where each has its own; then the report's own file is their index.
        warnings: what GitHub left out, in words.
        reused: the report was there already, and nothing was asked of GitHub.
    """

    question: Question
    repositories: int
    languages: dict[str, int]
    seconds: float
    files: list[WrittenFile] = []
    warnings: list[str] = []
    reused: bool = False


class Assignment(Value):
    """A question on its way through the tasks that answer it.

    Attributes:
        task_id: the caller's task, whose progress is told.
        started: when the report was asked for, in seconds since the epoch.
    """

    question: Question
    task_id: str
    started: float


@signature("reporter.produce_report", keeps_result=True)
def produce_report(
    period: Period | None = None,
    ref_date: PastDate | None = None,
    group_by: GroupBy = "language",
    layout: Layout = "grouped",
    per_language: bool = False,
    refresh: bool = False,
) -> ReportResult:
    """The 500 most starred repositories created in the `period` before `ref_date`, as CSV.

    `ref_date` is today (UTC) unless given; without a period: created on or after `ref_date`. A report that is there
    already is answered as it is, unless `refresh`. Progress: state PROGRESS with `stage`, `done` and `total`.
    """


@signature("reporter.fetch_repos", keeps_result=True)
def fetch_repos(since: PastDate, per_page: PageSize, page: PageNumber, report_to: str | None = None) -> Page:
    """One page of the search for repositories created on or after `since`, most starred first.

    `report_to` is the task whose progress this page counts for. Retried at the time that GitHub names when it limits
    the rate, and with backoff when it is away; final when GitHub refuses the search.
    Source: GitHub REST API, search/repositories.
    """


@signature("reporter.build_report", keeps_result=True)
def build_report(pages: list[Page], assignment: Assignment) -> ReportResult:
    """Join the pages, group them and write the CSV."""


@signature("reporter.write_language", keeps_result=True)
def write_language(language: str, repos: list[Repo], assignment: Assignment, of: int) -> WrittenFile:
    """Write the file of one language, for a report that has one for each: `of` files in all."""


@signature("reporter.write_index", keeps_result=True)
def write_index(
    files: list[WrittenFile], assignment: Assignment, languages: dict[str, int], warnings: list[str]
) -> ReportResult:
    """Write the index of the languages' files: the report is done."""
