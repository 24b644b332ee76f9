"""What a change of a task's declaration does to publishers and workers that are there already."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from shared.cli import ExitCode
from shared.contract import FORM, Change, Verdict, _task, compare, export, read, render
from shared.errors import ContractError
from shared.signatures import Declaration

HARMLESS, FIRST, BREAKING = Verdict


class Paint(BaseModel):
    colour: str


class Varnish(BaseModel):
    colour: str
    litres: int = 1


def contract(function: Callable[..., Any] | None, keeps: bool = False) -> dict[str, Any]:
    """One that holds the task `painter.paint` as the function declares it, or nothing."""
    told = None if function is None else json.loads(json.dumps(_task(Declaration("painter.paint", function, keeps))))
    return {"form": FORM, "tasks": {"painter.paint": told} if told else {}}


# fmt: off
# mypy: disable-error-code="empty-body"
def plain(a: int, b: str = "x") -> int: ...
def other_default(a: int, b: str = "y") -> int: ...
def more(a: int, b: str = "x", c: int = 0) -> int: ...
def must(a: int, b: str, c: int) -> int: ...
def less(a: int) -> int: ...
def needs_b(a: int, b: str) -> int: ...
def swapped(b: str = "x", a: int = 0) -> int: ...
def wider(a: float, b: str = "x") -> int: ...
def bounded(a: Annotated[int, Field(ge=0)], b: str = "x") -> int: ...
def worded(a: int, b: Literal["x", "y"] = "x") -> int: ...
def gives_more(a: int, b: str = "x") -> int | None: ...
def gives_less(a: int, b: str = "x") -> Literal[1]: ...
def takes_paint(a: Paint) -> Paint: ...
def takes_varnish(a: Varnish) -> Varnish: ...
def takes_many(a: dict[str, int]) -> int: ...
def takes_many_texts(a: dict[str, str]) -> int: ...
# fmt: on


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (plain, plain, []),
        (None, plain, [("the task is new", FIRST)]),
        (plain, None, [("the task is gone", BREAKING)]),
        (plain, other_default, [("the argument b has another default", HARMLESS)]),
        (plain, more, [("the argument c is new and may be left out", FIRST)]),
        (more, plain, [("the argument c is gone", BREAKING)]),
        (needs_b, must, [("the argument c is new and must be given", BREAKING)]),
        (plain, less, [("the argument b is gone", BREAKING)]),
        (plain, needs_b, [("the argument b must be given now", BREAKING)]),
        (needs_b, plain, [("the argument b may be left out now", FIRST)]),
        (
            plain,
            swapped,
            [("the argument a may be left out now", FIRST), ("the arguments have other places", BREAKING)],
        ),
        (plain, wider, [("the argument a takes more", FIRST)]),
        (wider, plain, [("the argument a takes less, or something else", BREAKING)]),
        (plain, bounded, [("the argument a takes less, or something else", BREAKING)]),
        (bounded, plain, [("the argument a takes more", FIRST)]),
        (plain, worded, [("the argument b takes less, or something else", BREAKING)]),
        (plain, gives_more, [("the result may be what its readers do not know", BREAKING)]),
        (plain, gives_less, [("the result is told more narrowly", HARMLESS)]),
        # A field that may be left out: who does not know it neither writes nor misses it.
        (takes_paint, takes_varnish, []),
        (takes_varnish, takes_paint, []),
        (takes_many, takes_many_texts, [("the argument a takes less, or something else", BREAKING)]),
    ],
)
def test_each_change_has_its_verdict(old: Any, new: Any, found: list[tuple[str, Verdict]]) -> None:
    assert [(one.what, one.verdict) for one in compare(contract(old), contract(new))] == found


@pytest.mark.parametrize(("before", "after", "verdict"), [(True, False, BREAKING), (False, True, FIRST)])
def test_whether_a_result_is_kept_is_told(before: bool, after: bool, verdict: Verdict) -> None:
    (change,) = compare(contract(plain, keeps=before), contract(plain, keeps=after))
    assert change.verdict is verdict and "kept" in change.what


def test_this_trees_contract_reads_back_and_equals_itself() -> None:
    assert compare(read(render()), export()) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tasks": {}}', '{"form": 99, "tasks": {}}'])
def test_what_is_no_contract_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match="export"):
        read(text)


def celery(*arguments: str, told: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "celery", "-A", "shared.app", "contract", *arguments]
    return subprocess.run(command, input=told, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_tells_breaking_from_harmless(tmp_path: Path) -> None:
    # Given this contract, one of which a task is gone, and one that has a task more
    whole = read(render())
    fewer = {**whole, "tasks": {name: task for name, task in whole["tasks"].items() if name != "calculator.add"}}
    (tmp_path / "fewer.json").write_text(json.dumps(fewer))

    # Then a task that is gone breaks, and one that came does not
    gone = celery("diff", "-", str(tmp_path / "fewer.json"), told=render())
    assert (gone.returncode, gone.stdout) == (ExitCode.FAILED, "breaking       calculator.add: the task is gone\n")
    came = celery("diff", str(tmp_path / "fewer.json"), "--format", "json")
    assert came.returncode == ExitCode.OK
    assert json.loads(came.stdout) == [
        {"task": "calculator.add", "what": "the task is new", "verdict": "workers_first"}
    ]
    # And what is exported is the file that is kept
    assert celery("export").stdout == Path("shared/signatures/contract.json").read_text()
    assert celery("diff", "-", told="{}").returncode == ExitCode.USAGE


def test_changes_are_ordered_by_task() -> None:
    assert Change("a", "x", BREAKING) < Change("b", "x", HARMLESS)
