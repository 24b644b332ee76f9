"""What GitHub can do wrong, told apart by what becomes of the report."""

import pytest

from tests.e2e.houses import House, report


@pytest.mark.parametrize(
    "fault",
    [
        "server_error_500",
        "server_error_502",
        "server_error_503",
        "broken_json",
        "html_instead",
        "wrong_shape",
        {"name": "reset", "when": "before_answer"},
        {"name": "reset", "when": "mid_body"},
    ],
    ids=str,
)
def test_what_passes_is_tried_again(house: House, fault: str | dict[str, str]) -> None:
    # Given a GitHub that fails once, for one page
    given = {"name": fault} if isinstance(fault, str) else dict(fault)
    house.github.fault(given.pop("name"), page=3, times=1, **given)

    # When a report is made
    result = report(house, "--period", "week", "--refresh")

    # Then it is whole, and that page alone was asked for twice
    assert result.repositories == 500
    assert result.warnings == []
    assert sorted(house.github.pages()) == [1, 2, 3, 3, 4, 5]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("rate_limited_403", {"reset": 3}),
        ("retry_after_403", {"retry_after": 2}),
        ("too_many_429", {"retry_after": 2}),
    ],
)
def test_a_limit_is_waited_for_as_long_as_github_says(house: House, fault: str, told: dict[str, int]) -> None:
    # Given a GitHub that limits the rate of one page
    house.github.fault(fault, page=2, times=1, **told)

    # When a report is made
    result = report(house, "--period", "week", "--refresh")

    # Then it is whole, and that page was asked for again when GitHub said, not before
    assert result.repositories == 500
    refused, answered = house.github.asked_for(2)
    assert (refused["status"], answered["status"]) == (429 if fault == "too_many_429" else 403, 200)
    (seconds,) = told.values()
    # A reset is a whole second of the clock: it may begin almost a second before its name.
    assert answered["started"] - refused["ended"] >= seconds - 1


def test_a_slow_answer_is_waited_for(house: House) -> None:
    # Given a GitHub that takes 3 s for one page
    house.github.fault("slow", page=4, times=1, seconds=3)

    # When a report is made
    result = report(house, "--period", "week", "--refresh")

    # Then it is whole, and no page was asked for twice
    assert result.repositories == 500
    assert sorted(house.github.pages()) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("fault", "says"), [("invalid_422", "422"), ("forbidden_403", "403")], ids=["invalid_422", "forbidden_403"]
)
def test_a_refusal_is_final_and_told(house: House, fault: str, says: str) -> None:
    # Given a GitHub that refuses one page
    house.github.fault(fault, page=3, times=None)

    # When a report is asked for
    done = house.celery("report", "--period", "week", "--refresh")

    # Then it fails with GitHub's answer, and nobody asked again
    assert done.returncode == 1, done.stdout
    assert says in done.stderr
    assert len(house.github.asked_for(3)) == 1


def test_incomplete_results_are_asked_for_again(house: House) -> None:
    # Given a GitHub that runs out of time once
    house.github.fault("incomplete_results", page=1, times=1)

    # When a report is made
    result = report(house, "--period", "week", "--refresh")

    # Then it is whole
    assert result.repositories == 500
    assert result.warnings == []


def test_results_that_stay_incomplete_are_taken_and_told(house: House) -> None:
    # Given a GitHub that always runs out of time for one page
    house.github.fault("incomplete_results", page=1, times=None)

    # When a report is made
    result = report(house, "--period", "week", "--refresh")

    # Then it has what there was, and says so
    assert 400 <= result.repositories < 500
    assert [warning for warning in result.warnings if "page 1 is incomplete" in warning]


def test_an_empty_page_is_told(house: House) -> None:
    # Given a GitHub that has nothing on one page
    house.github.fault("empty_page", page=5, times=1)

    # When a report is made
    result = report(house, "--period", "week", "--refresh")

    # Then the others are in it, and it says what is missing
    assert result.repositories == 400
    assert result.warnings == ["page 5 was empty"]


def test_what_github_does_not_know_is_unknown(house: House) -> None:
    # Given a page without any language or description
    house.github.fault("null_fields", page=1, times=1)

    # When a report is made
    result = report(house, "--period", "week", "--layout", "table", "--refresh")

    # Then its repositories are there, of unknown language
    assert result.repositories == 500
    assert result.languages["unknown"] >= 100


def test_a_github_that_stays_away_ends_the_report_in_words(house: House) -> None:
    # Given a GitHub that fails for one page whenever it is asked
    house.github.fault("server_error_500", page=5, times=None)

    # When a report is asked for
    done = house.celery("report", "--period", "week", "--refresh")

    # Then it was tried a bounded number of times, and the reason is told
    assert done.returncode == 1, done.stdout
    assert "500" in done.stderr
    assert len(house.github.asked_for(5)) == 6
