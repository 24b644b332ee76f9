"""`celery -A shared.app publish`: a task for each line of a file, and what was not confirmed can go again."""

import json
import signal
from pathlib import Path

import pytest

from tests.publishing.between import Between
from tests.publishing.conftest import Arrived, Start
from tests.waiting import eventually

pytestmark = pytest.mark.containers


def test_each_line_becomes_a_task_whatever_its_form(start: Start, arrived: Arrived, tmp_path: Path) -> None:
    file = tmp_path / "args.jsonl"
    file.write_text(
        '["by place"]\n{"about": "by name"}\n\n{"args": ["both"], "id": "mine"}\n{"kwargs": {"about": "z"}}\n'
    )
    told, said = start("calculator.note", "--from", str(file), "--ids", "a-run", "--format", "json").communicate()
    report = json.loads(told)
    assert report["counts"] == {"confirmed": 4} and not report["failed"], said
    first = arrived.ids()
    assert first[2] == "mine" and not (tmp_path / "args.jsonl.unconfirmed").exists()
    # And the same name gives the same ids, another one others
    start("calculator.note", "--from", str(file), "--ids", "a-run").communicate()
    assert arrived.ids() == first
    start("calculator.note", "--from", str(file), "--ids", "another").communicate()
    assert set(arrived.ids()) & set(first) == {"mine"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[7]", "line 31: calculator.note: about"),
        ('{"args": 1}', "line 31: args must be a list"),
    ],
)
def test_a_wrong_line_is_named_before_anything_is_sent(
    start: Start, arrived: Arrived, tmp_path: Path, line: str, said: str
) -> None:
    file = tmp_path / "args.jsonl"
    file.write_text("\n".join([*['["fine"]'] * 30, line, '["fine"]']))
    process = start("calculator.note", "--from", str(file))
    _, errors = process.communicate()
    assert process.returncode == 2 and said in " ".join(errors.split())
    assert arrived.count() == 0


def test_stdin_is_sent_as_it_comes(start: Start, arrived: Arrived) -> None:
    process = start("calculator.note", "--from", "-", "--batch", "10")
    assert process.stdin is not None
    process.stdin.write('["x"]\n' * 10)
    process.stdin.flush()
    eventually(lambda: arrived.count() == 10)
    _, errors = process.communicate('["x"]\n' * 5 + "[7]\n")
    assert process.returncode == 2
    assert "line 16" in errors and "the 10 lines" in " ".join(errors.split())
    assert arrived.count() == 10


def test_what_was_not_confirmed_is_kept_and_goes_again_under_its_ids(
    start: Start, arrived: Arrived, way: Between, tmp_path: Path
) -> None:
    # Given a broker that falls silent
    file, rest = tmp_path / "args.jsonl", tmp_path / "args.jsonl.unconfirmed"
    file.write_text("".join(f'["number {number}"]\n' for number in range(3000)))
    way.silence()
    arguments = ("calculator.note", "--from", str(file), "--ids", "a-run", "--timeout", "1", "--format", "json")
    process = start(*arguments, way=way)
    told, _ = process.communicate()
    # Then the command says so, and keeps what was not confirmed
    assert process.returncode == 3 and json.loads(told)["counts"]["not_sent"] == 3000
    assert json.loads(told)["unconfirmed"] == str(rest)
    # And it does not begin again before something is done about it
    again = start(*arguments)
    assert "is there, from an earlier run" in " ".join(again.communicate()[1].split()) and again.returncode == 2
    # And the rest can be published, under the same ids
    kept = [json.loads(line)["id"] for line in rest.read_text().splitlines()]
    last = start("calculator.note", "--from", str(rest))
    last.communicate()
    assert last.returncode == 0 and arrived.ids() == kept and len(kept) == 3000


def test_ctrl_c_keeps_what_was_not_confirmed(start: Start, arrived: Arrived, way: Between, tmp_path: Path) -> None:
    # Given a slow way
    file, rest = tmp_path / "args.jsonl", tmp_path / "args.jsonl.unconfirmed"
    file.write_text("".join(f'["number {number}"]\n' for number in range(20_000)))
    way.rate = 2_000_000
    process = start("calculator.note", "--from", str(file), "--format", "json", "--timeout", "60", way=way)
    eventually(lambda: arrived.count() > 100)
    process.send_signal(signal.SIGINT)
    told, errors = process.communicate()
    report = json.loads(told)
    assert process.returncode == 130 and report["interrupted"], errors
    # Then each line is either confirmed or kept
    kept = [json.loads(line)["id"] for line in rest.read_text().splitlines()]
    assert report["counts"]["confirmed"] + len(kept) == 20_000
    eventually(lambda: arrived.count() >= report["counts"]["confirmed"])


def test_a_task_that_nobody_declared_is_refused(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "args.jsonl"
    file.write_text("[]\n")
    process = start("calculator.nothing", "--from", str(file))
    assert "is not declared" in process.communicate()[1] and process.returncode == 2
