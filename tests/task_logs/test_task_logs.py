"""A log file per task: what it logs, what it prints, and its life."""

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.signatures import calculator
from shared.topology import service
from tests.task_logs.conftest import MakeHouse

ROOT = Path(__file__).parents[2]
LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (?P<level>[A-Z]+) +(?P<id>\S+) "
    r"root=(?P<root>\S+) attempt=(?P<attempt>\d+) (?P<text>.*)"
)


def said(lines: list[str], task_id: str) -> list[str]:
    """What the lines of one task say; every line must be whole."""
    matches = [LINE.fullmatch(line) for line in lines]
    assert all(matches), [line for line, match in zip(lines, matches, strict=True) if not match]
    return [match["text"] for match in matches if match and match["id"] == task_id]


def test_a_tasks_log_has_its_life_and_what_it_says(worker: MakeHouse) -> None:
    with worker() as house:
        # When a task succeeds, one fails, and one is retried
        added = calculator.add(1, 2).delay()
        failed = calculator.add_days(3_000_000).delay()
        unsteady = calculator.unsteady(1).delay()
        assert added.get(timeout=20) == 3 and unsteady.get(timeout=20) == 2
        house.until("the failure is logged", lambda: len(house.log("calculator.add_days")) > 3)

        # Then each tells so in its own file
        received, started, result, succeeded = said(house.log("calculator.add"), added.id)
        assert re.fullmatch(r"received queue=calculator worker=calculator@\S+ parent=- group=-", received)
        assert re.fullmatch(r"started after \d+\.\d{3} s", started)
        assert result == "Result of 1 + 2 = 3"
        assert re.fullmatch(r"succeeded in \d+\.\d{3} s", succeeded)

        lines = said(house.log("calculator.add_days"), failed.id)
        assert [line.split()[0] for line in lines[:2]] == ["received", "started"]
        assert lines[2].startswith("failed: InvalidArguments: calculator.add_days: no day lies 3000000 days after")
        assert lines[3] == "Traceback (most recent call last):" and "OverflowError" not in lines[2]

        attempts = [LINE.fullmatch(line) for line in house.log("calculator.unsteady")]
        texts = [(int(match["attempt"]), match["text"]) for match in attempts if match]
        begun = [(attempt, text.split(" ")[0]) for attempt, text in texts]
        assert (1, "received") in begun and (2, "started") in begun
        assert [text for attempt, text in texts if attempt == 1][-1].startswith("retried: Retry in 1s: Unsteady(")


def test_each_line_names_the_canvas_that_it_belongs_to(worker: MakeHouse) -> None:
    with worker() as house:
        # When a task takes itself apart
        result = calculator.count_down(2).delay()
        assert result.get(timeout=20) == 3
        # Then all that came of it has its id as root
        for task in ("calculator.add", "calculator.total"):
            assert {match["root"] for line in house.log(task) if (match := LINE.fullmatch(line))} == {result.id}


_PRINTING = """
import sys
from shared.app import create_app
from shared.signatures import Declaration
from shared.tasks import implements
app = create_app("calculator")
def shout(text: str) -> None: ...
declared = Declaration("calculator.shout", shout, keeps_result=True)
@implements(declared, app)
def shout(text):
    print(text)
    print("to stderr", file=sys.stderr)
"""


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_what_a_task_prints_is_in_its_log(
    worker: MakeHouse, pool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker with a task that prints two lines, and one to stderr
    (tmp_path / "printing.py").write_text(_PRINTING)
    monkeypatch.setattr("shared.spec.ServiceSpec.app", property(lambda self: "printing"))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    with worker(pool) as house:
        # When it runs
        sent = house.app.send_task("calculator.shout", ("first\nsecond",))
        house.until("it is done", lambda: any("succeeded" in line for line in house.log("calculator.shout")))
        # Then all of it is there, each line with its task
        assert said(house.log("calculator.shout"), sent.id)[2:-1] == ["first", "second", "to stderr"]


def test_a_task_that_its_time_limit_kills_says_so(worker: MakeHouse) -> None:
    with worker("prefork") as house:
        result = calculator.wait(20).apply_async(time_limit=1)
        with pytest.raises(Exception, match="TimeLimitExceeded"):
            result.get(timeout=20)
        house.until("it is told", lambda: len(house.log("calculator.wait")) > 2)
        lines = said(house.log("calculator.wait"), result.id)
        assert lines[2].startswith("failed: TimeLimitExceeded")
        # And it is not begun again: it would take too long again.
        assert calculator.add(1, 1).delay().get(timeout=20) == 2
        assert sum(line.startswith("started") for line in lines) == 1


def test_a_revoked_task_says_so(worker: MakeHouse) -> None:
    with worker() as house:
        result = calculator.wait(0).apply_async(expires=-1)
        house.until("it is told", lambda: "expired" in said(house.log("calculator.wait"), result.id))
        assert not [line for line in said(house.log("calculator.wait"), result.id) if line.startswith("started")]


def test_a_log_that_is_moved_away_begins_anew(worker: MakeHouse) -> None:
    with worker() as house:
        calculator.add(1, 2).delay().get(timeout=20)
        (house.logs / "calculator.add.log").rename(house.logs / "calculator.add.log.moved")
        again = calculator.add(3, 4).delay()
        assert again.get(timeout=20) == 7
        house.until("it is logged", lambda: len(house.log("calculator.add")) == 4)
        assert "Result of 3 + 4 = 7" in said(house.log("calculator.add"), again.id)


def test_a_place_that_cannot_be_written_fails_no_task(worker: MakeHouse, tmp_path: Path) -> None:
    # Given logs that shall go below a file
    (tmp_path / "file").write_text("")
    with worker(TASK_LOG_DIR=str(tmp_path / "file" / "logs")) as house:
        # Then tasks run, and the worker says what is wrong
        assert calculator.add(1, 2).delay().get(timeout=20) == 3
        assert "task log: cannot write to" in house.console.read_text()


def test_the_console_carries_the_same_records_as_json(worker: MakeHouse) -> None:
    with worker(LOG_FORMAT="json") as house:
        result = calculator.add(1, 2).delay()
        assert result.get(timeout=20) == 3
        house.until("it is told", lambda: "succeeded in" in house.console.read_text())
        records = [json.loads(line) for line in house.console.read_text().splitlines() if line.startswith("{")]
        mine = [one for one in records if one.get("id") == result.id]
        # Then each record stands there once, with its task
        assert [one["message"] for one in mine] == said(house.log("calculator.add"), result.id)
        assert {(one["task"], one["root"], one["attempt"]) for one in mine} == {("calculator.add", result.id, 1)}


def test_ten_thousand_tasks_over_eight_processes(worker: MakeHouse) -> None:
    # Given eight processes, and logs that turn over
    wide = replace(service("calculator"), concurrency=(8, 8))
    with worker("prefork", wide, TASK_LOG_SIZE="1000000", TASK_LOG_BACKUPS="100") as house:
        spool = Path(house.environ["LOCAL_DIR"]) / "broker" / "messages"
        # When ten thousand tasks run; a folder with all of them at once would be slow to look through
        ids: list[str] = []
        for _ in range(20):
            house.until("the spool is short", lambda: sum(1 for _ in spool.iterdir()) < 300)
            for number in range(500):
                ids.append(calculator.add(number, 1).apply_async(ignore_result=True).id)

        def files() -> list[Path]:
            return sorted(house.logs.glob("calculator.add.log*"))

        def done() -> int:
            return sum(file.read_text().count("succeeded in") for file in files())

        house.until("all of them are done", lambda: done() >= len(ids), seconds=120)

        # Then it did turn over, every line is whole, and each task has its four lines
        assert len(files()) > 1
        matches = [LINE.fullmatch(line) for file in files() for line in file.read_text().splitlines()]
        assert all(matches)
        assert Counter(match["id"] for match in matches if match) == dict.fromkeys(ids, 4)


def test_logs_are_found_by_name_and_by_id(worker: MakeHouse) -> None:
    with worker() as house:
        # Given a canvas, and something else
        result = calculator.count_down(1).delay()
        result.get(timeout=20)
        other = calculator.add(5, 5).delay()
        other.get(timeout=20)
        house.until("it is logged", lambda: "Result of 5 + 5" in "".join(house.log("calculator.add")))

        def logs(*arguments: str) -> "subprocess.CompletedProcess[str]":
            command = [sys.executable, "-m", "celery", "-A", "shared.app", "logs", *arguments]
            return subprocess.run(command, cwd=ROOT, env=house.environ, capture_output=True, text=True, timeout=60)

        # When somebody asks by name, then that file is printed
        assert logs("calculator.add").stdout.splitlines() == house.log("calculator.add")
        # By id of a task: all of its lines; of a canvas: all that came of it, in the order of time
        assert said(logs(other.id).stdout.splitlines(), other.id)[2] == "Result of 5 + 5 = 10"
        canvas = logs(result.id).stdout.splitlines()
        assert {match["root"] for line in canvas if (match := LINE.fullmatch(line))} == {result.id}
        assert canvas == sorted(canvas, key=lambda line: line[:24]) and len(canvas) > 8
        # What nobody wrote is a clear error
        nothing = logs("calculator.none")
        assert nothing.returncode == 1 and "was it ever taken" in nothing.stderr


def test_a_log_is_followed(worker: MakeHouse) -> None:
    with worker() as house:
        calculator.add(1, 1).delay().get(timeout=20)
        house.until("it is logged", lambda: len(house.log("calculator.add")) == 4)
        # Given somebody who follows a log
        command = [sys.executable, "-m", "celery", "-A", "shared.app", "logs", "calculator.add", "-f"]
        with subprocess.Popen(command, cwd=ROOT, env=house.environ, stdout=subprocess.PIPE, text=True) as following:
            try:
                assert following.stdout is not None
                lines = [following.stdout.readline() for _ in range(4)]
                assert "Result of 1 + 1 = 2" in lines[2]
                # When the file is moved away and another task writes
                (house.logs / "calculator.add.log").rename(house.logs / "calculator.add.log.1")
                calculator.add(2, 2).delay().get(timeout=20)
                # Then its lines come too, and none twice
                more = [following.stdout.readline() for _ in range(4)]
                assert "Result of 2 + 2 = 4" in more[2] and "received" in more[0]
            finally:
                following.terminate()
