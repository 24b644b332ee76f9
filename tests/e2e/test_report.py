"""A report, end to end: the same scenarios embedded and on the shipped compose file."""

import csv
import hashlib
import io
import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest

from tests.e2e import expected
from tests.e2e.houses import House, report


def today() -> date:
    return datetime.now(UTC).date()


def rows(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


def test_the_weekly_report_equals_one_computed_from_the_data(house: House) -> None:
    # Given the 500 most starred of the last week, computed without the reporter
    wanted = expected.hottest(today() - timedelta(days=7), today(), 500)

    # When an operator asks for the weekly report
    result = report(house, "--period", "week", "--refresh")

    # Then the file has just these, byte for byte
    content = house.read(result.name)
    assert content == expected.grouped(wanted)
    # And the result says what is in it
    assert result.name.endswith(f"/github-hot-repos-{today()}.csv")
    assert result.repositories == len(wanted) == 500
    assert result.languages == dict(Counter(known.language for known in wanted))
    assert result.rows == len(rows(content))
    assert result.bytes == len(content)
    assert result.sha256 == hashlib.sha256(content).hexdigest()
    assert result.warnings == []
    assert result.reused is False
    # And GitHub was asked for each page once
    assert sorted(house.github.pages()) == [1, 2, 3, 4, 5]


def test_a_report_that_is_there_is_answered_without_a_request(house: House) -> None:
    # Given a report
    first = report(house, "--period", "day", "--refresh")
    house.github.reset()

    # When the same question is asked again
    again = report(house, "--period", "day")

    # Then it has the same answer, and GitHub was not asked
    assert again.reused is True
    assert again.sha256 == first.sha256
    assert house.github.requests() == []
    # And with --refresh it is asked
    assert report(house, "--period", "day", "--refresh").reused is False
    assert len(house.github.requests()) == 5


def test_five_pages_are_fetched_at_once(house: House) -> None:
    # Given a GitHub that takes 300 ms for each answer, and a pool that has worked before
    report(house, "--period", "week", "--refresh")
    house.github.reset()
    house.github.settings(latency=0.3)

    # When a report is made
    report(house, "--period", "week", "--refresh")

    # Then from the first question to the last answer passes less than twice the slowest one
    asked = house.github.requests()
    slowest = max(record["ended"] - record["started"] for record in asked)
    whole = max(record["ended"] for record in asked) - min(record["started"] for record in asked)
    assert len(asked) == 5
    assert slowest >= 0.3
    assert whole < 2 * slowest


def test_a_table_has_a_line_a_repository(house: House) -> None:
    # When a report is asked for as a table
    result = report(house, "--period", "week", "--layout", "table", "--refresh")

    # Then each of the 500 has its line, most starred first, below a header
    header, *lines = rows(house.read(result.name))
    wanted = expected.hottest(today() - timedelta(days=7), today(), 500)
    assert header[:3] == ["rank", "full_name", "stars"]
    assert [line[1] for line in lines] == [known.full_name for known in wanted]
    # And no cell is one that a spreadsheet would run
    assert not [cell for line in lines for cell in line if cell[:1] in ("=", "+", "-", "@", "\t", "\r", "\n")]


def test_by_topic_a_repository_stands_under_each_of_its_topics(house: House) -> None:
    # Given what GitHub says of the pages
    since = str(today() - timedelta(days=1))
    found = [item for page in range(1, 6) for item in house.github.search(since, page)]
    topics = Counter(topic for item in found for topic in item["topics"] or ["unknown"])

    # When a report is grouped by topic
    result = report(house, "--period", "day", "--group-by", "topic", "--refresh")

    # Then each topic's line has as many
    lines = rows(house.read(result.name))
    assert {line[0]: len(line) - 1 for line in lines} == dict(topics)
    assert [line[0] for line in lines] == sorted(topics)


def test_a_file_a_language_and_an_index(house: House) -> None:
    # When each language shall have a file of its own
    result = report(house, "--period", "week", "--layout", "table", "--per-language", "--refresh")

    # Then there is one for each, with as many repositories as the index and the result say
    assert {file.group for file in result.files} == set(result.languages)
    index = {line[0]: line for line in rows(house.read(result.name))[1:]}
    for file in result.files:
        content = house.read(file.name)
        assert file.group is not None
        assert len(rows(content)) - 1 == result.languages[file.group] == int(index[file.group][1])
        assert hashlib.sha256(content).hexdigest() == file.sha256 == index[file.group][4]
    assert sum(result.languages.values()) == result.repositories == 500


def test_without_a_period_it_is_since_the_day_itself(house: House) -> None:
    # Given a day
    day = today() - timedelta(days=3)

    # When a report is asked for without a period
    result = report(house, "--ref-date", str(day), "--refresh")

    # Then GitHub is asked for what was created on or after that day
    assert result.question.since == day
    assert {json.dumps(record["query"]["q"]) for record in house.github.requests()} & {
        json.dumps(f"created:>={day}"),
        json.dumps([f"created:>={day}"]),
    }
    assert result.name.endswith(f"github-hot-repos-{day}.csv")


#: A program as a team would write it: it publishes through the contract, and prints each state that it sees.
WATCHER = """
import json
from shared.app import app
from shared.signatures import reporter

result = reporter.produce_report(period="week", refresh=True).apply_async()
seen = None
while not result.ready():
    # State and progress in one look: two could be of two moments.
    meta = app.backend.get_task_meta(result.id)
    if meta != seen and meta["status"] == "PROGRESS":
        print(json.dumps(meta["result"]), flush=True)
    seen = meta
print(json.dumps([result.state, result.get(timeout=10)]))
"""


def test_a_publisher_sees_how_far_its_task_is(house: House) -> None:
    # Given pages that are answered one after the other
    for page in range(1, 6):
        house.github.fault("slow", page=page, times=1, seconds=page * 0.4)

    # When a program publishes the task and watches its id
    done = house.publisher(WATCHER)

    # Then it sees the pages come, each with how many there will be
    assert done.returncode == 0, done.stderr
    *states, (final, result) = [json.loads(line) for line in done.stdout.splitlines()]
    fetched = [told["done"] for told in states if told["stage"] == "fetch"]
    assert fetched == sorted(fetched)
    assert {1, 2, 3, 4} <= set(fetched)
    assert all(told["total"] == 5 for told in states if told["stage"] == "fetch")
    # And at last the report, under the id that it had from the beginning
    assert final == "SUCCESS"
    assert result["repositories"] == 500


@pytest.mark.parametrize(
    ("option", "value", "argument"),
    [
        ("--period", "year", "period"),
        ("--ref-date", "2026-02-30", "ref_date"),
        ("--ref-date", "2999-01-01", "ref_date"),
        ("--ref-date", "yesterday", "ref_date"),
        ("--group-by", "stars", "group_by"),
        ("--layout", "pdf", "layout"),
    ],
)
def test_a_wrong_argument_is_refused_where_it_is_submitted(
    house: House, option: str, value: str, argument: str
) -> None:
    # When a report is asked for with an argument that makes no sense
    done = house.celery("report", option, value)

    # Then the command ends at once and names it, and GitHub was not asked
    assert done.returncode == 2
    assert argument in done.stderr
    assert house.github.requests() == []
