"""What a question is filled in with, and where its answer is kept."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reporter.question import csv_name, folder, language_csv_name, manifest_name, question
from shared.errors import InvalidArguments
from shared.signatures.reporter import Question
from shared.storage import Storage

FRIDAY = date(2026, 11, 20)

questions = st.builds(
    question,
    period=st.sampled_from([None, "day", "week", "month"]),
    ref_date=st.dates(min_value=date(2008, 1, 1)),
    group_by=st.sampled_from(["language", "topic"]),
    layout=st.sampled_from(["grouped", "table"]),
    per_language=st.booleans(),
)


@pytest.mark.parametrize(
    ("period", "ref_date", "since"),
    [
        (None, FRIDAY, FRIDAY),
        ("day", FRIDAY, date(2026, 11, 19)),
        ("week", FRIDAY, date(2026, 11, 13)),
        ("month", FRIDAY, date(2026, 10, 20)),
        ("month", date(2026, 3, 31), date(2026, 2, 28)),
        ("month", date(2024, 3, 31), date(2024, 2, 29)),
        ("month", date(2026, 1, 15), date(2025, 12, 15)),
        ("day", date(2026, 1, 1), date(2025, 12, 31)),
    ],
)
def test_since_lies_a_period_before_the_day(period: Any, ref_date: date, since: date) -> None:
    asked = question(period, ref_date)
    assert (asked.since, asked.ref_date, asked.period) == (since, ref_date, period)


def test_the_day_is_today_unless_given() -> None:
    assert question("day", today=FRIDAY).ref_date == FRIDAY
    # Midnight may pass between two looks at the clock.
    assert datetime.now(UTC).date() >= question("day").ref_date >= question("day").since


def test_a_day_outranks_today() -> None:
    assert question("day", date(2020, 5, 5), today=FRIDAY).ref_date == date(2020, 5, 5)


@pytest.mark.parametrize("period", ["day", "week", "month"])
def test_a_day_without_a_past_is_refused(period: Any) -> None:
    with pytest.raises(InvalidArguments, match=f"a {period} before 0001-01-01"):
        question(period, date.min)


def test_the_rest_of_the_question_is_kept() -> None:
    asked = question("week", FRIDAY, "topic", "table", True)
    assert (asked.group_by, asked.layout, asked.per_language) == ("topic", "table", True)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (question("week", FRIDAY), "week/language/grouped/github-hot-repos-2026-11-20.csv"),
        (question(None, FRIDAY, "topic", "table"), "since/topic/table/github-hot-repos-2026-11-20.csv"),
        (
            question("day", FRIDAY, per_language=True),
            "day/language/per-language-grouped/github-hot-repos-2026-11-20.csv",
        ),
    ],
)
def test_a_name_reads_as_the_question(asked: Question, name: str) -> None:
    assert csv_name(asked) == name
    assert name.startswith(f"{folder(asked)}/")
    assert manifest_name(asked) == name.removesuffix(".csv") + ".json"
    assert language_csv_name(asked, "C++") == name.removesuffix(".csv") + "/C%2B%2B.csv"


@given(questions, questions)
def test_different_questions_never_share_a_name(one: Question, other: Question) -> None:
    assert (csv_name(one) == csv_name(other)) == (one == other)
    assert (manifest_name(one) == manifest_name(other)) == (one == other)


def test_all_questions_of_a_day_have_their_own_names() -> None:
    asked = [
        question(period, FRIDAY, group_by, layout, per_language)
        for period in (None, "day", "week", "month")
        for group_by in ("language", "topic")
        for layout in ("grouped", "table")
        for per_language in (False, True)
    ]
    assert len({csv_name(each) for each in asked}) == len(asked) == 32


@given(questions, st.text(min_size=1))
def test_every_name_can_be_stored(asked: Question, language: str) -> None:
    storage = Storage("memory://names")
    for name in (csv_name(asked), manifest_name(asked), language_csv_name(asked, language)):
        assert not storage.exists(name)  # and no BadName
