"""`celery -A shared.app trace ID`: what became of a canvas, put together from three places."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import _state, chain, chord
from click.testing import CliRunner, Result

from shared.app import App, create_app
from shared.cli.trace import trace
from shared.config import Settings
from shared.signatures import calculator
from tests.servers import OwnRedis
from tests.waiting import eventually
from tests.watching.house import QUEUE, House

pytestmark = pytest.mark.containers

#: Seconds for which the queue is held back.
HELD = 2.0
#: Longest line of the tree, where there is no terminal.
WIDTH = 80

Tree = dict[str, Any]


@pytest.fixture
def operator(house: House, redis: OwnRedis, tmp_path: Path) -> Iterator[App]:
    """Reads the worker's logs too."""
    told = {**house.broker.user("operator", redis), "TASK_LOG_DIR": str(tmp_path / "logs")}
    app = create_app(settings=Settings.load(told), current=False)
    yield app
    app.close()


@pytest.fixture(autouse=True)
def ours(house: House) -> Iterator[None]:
    """Canvases are the house's app's."""
    kept, default = _state._tls.current_app, _state.default_app
    house.app.set_current()
    house.app.set_default()
    yield
    _state._tls.current_app = kept
    _state.set_default_app(default)


def run(app: App, *arguments: str) -> Result:
    return CliRunner().invoke(trace, arguments, obj=SimpleNamespace(app=app))


def tree(app: App, task_id: str) -> Tree:
    result = run(app, task_id, "--format", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def nodes(top: Tree) -> list[Tree]:
    return [top, *(below for child in top["children"] for below in nodes(child))]


def by_name(top: Tree) -> dict[str, list[Tree]]:
    found: dict[str, list[Tree]] = {}
    for node in nodes(top):
        found.setdefault(node["task"].removeprefix(f"{QUEUE}."), []).append(node)
    return found


def shape(top: Tree) -> Any:
    return {top["task"].removeprefix(f"{QUEUE}."): sorted(map(str, map(shape, top["children"])))}


def play(house: House, folder: Path) -> str:
    """A chain with a callback, a retry, a chord and a failure, its queue held back at first; gives its root's id."""
    house.start(TASK_LOG_DIR=str(folder / "logs"), TELL=str(folder))
    house.app.control.cancel_consumer(QUEUE)
    eventually(lambda: not house.ready())
    first = calculator.add(1, 0)
    first.link(calculator.note.si("seen"))
    canvas = chain(
        first,
        calculator.unsteady.s(),
        chord([calculator.multiply.s(3), calculator.add.s(4)], calculator.total.s()),
        calculator.add_days.si(3_000_000),
    )
    result = canvas.apply_async()
    published = time.monotonic()
    eventually(lambda: time.monotonic() - published >= HELD)
    house.app.control.add_consumer(QUEUE)
    eventually(lambda: house.dead_letters() == 1)
    while result.parent is not None:
        result = result.parent
    return result.id


def test_the_tree_of_a_canvas_from_any_of_its_ids(house: House, operator: App, redis: OwnRedis, tmp_path: Path) -> None:
    # Given a canvas with every kind of step, which has come to its end
    root = play(house, tmp_path)
    whole = tree(operator, root)

    # Then its tree is told, whichever of its ids is asked for; that of a group too
    found = by_name(whole)
    assert set(found) == {"add", "note", "unsteady", "multiply", "total", "add_days"}
    (multiplied,) = found["multiply"]
    for one in [*nodes(whole), {"id": multiplied["group"]}]:
        assert tree(operator, one["id"]) == whole
    parents = {node["id"]: node["parent"] for node in nodes(whole)}
    (unsteady,), (note,), (total,), (failed,) = (found[name] for name in ("unsteady", "note", "total", "add_days"))
    assert whole["task"] == "calculator.add" and whole["parent"] is None
    assert unsteady["parent"] == note["parent"] == whole["id"]
    header = [node for name in ("multiply", "add") for node in found[name] if node is not whole]
    assert {node["parent"] for node in header} == {unsteady["id"]} and len(header) == 2
    assert total["parent"] in {node["id"] for node in header} and failed["parent"] == total["id"]
    assert set(parents.values()) - {None} <= set(parents)

    # And of each task how it was
    for node in nodes(whole):
        assert node["queue"] == QUEUE and node["worker"] == f"{QUEUE}@0", node
        assert node["run"] is not None and 0 <= node["run"] < 1, node
        assert node["attempts"] == (2 if node is unsteady else 1), node
        assert node["state"] == ("FAILURE" if node is failed else "SUCCESS"), node
    # The first one waited for as long as the queue was held back, the others did not
    assert HELD <= whole["wait"] < HELD + 2
    assert all(node["wait"] < 1 for node in nodes(whole) if node is not whole)
    # What kept no result is there by its log
    assert [line["text"] for line in note["log"]] == ["seen"]
    assert [line["text"] for line in whole["log"]] == ["Result of 1 + 0 = 1"]
    # And what was given up has its reason
    assert (
        failed["dead_letter"]["reason"] == "invalid_arguments" and "no day lies" in failed["dead_letter"]["exception"]
    )
    assert "no day lies" in failed["error"]

    # When the command runs as a person starts it, then each line fits, and nothing commands a terminal
    said = command(operator, failed["id"], environ=house.broker.user("operator", redis), logs=tmp_path / "logs")
    assert said.returncode == 0, said.stderr
    assert max(map(len, said.stdout.splitlines())) <= WIDTH and "\x1b" not in said.stdout
    assert "calculator.add_days  FAILURE  <-" in said.stdout and "wait 2." in said.stdout
    assert "dead letter" in said.stdout and "attempts 2" in said.stdout

    # When the logs cannot be read, then what keeps its result is told all the same
    bare = create_app(settings=Settings.load(house.broker.user("operator", redis)), current=False)
    known = by_name(tree(bare, total["id"]))
    (silent,) = known.pop("")
    assert set(known) == set(found) - {"note"}
    # What keeps no result its caller names
    assert (silent["id"], silent["parent"], silent["state"]) == (note["id"], whole["id"], "UNKNOWN")
    (again,) = known["unsteady"]
    assert (again["attempts"], again["worker"], again["queue"]) == (2, f"{QUEUE}@0", QUEUE)
    assert again["parent"] == whole["id"] and again["wait"] < 1
    assert tree(bare, multiplied["group"]) == tree(bare, root)
    assert HELD <= tree(bare, root)["wait"] < HELD + 2
    bare.close()

    # When the results have expired, then the logs tell the same of all
    redis.client.flushall()
    left = tree(operator, total["id"])
    assert {node["id"]: (node["parent"], node["state"], node["attempts"]) for node in nodes(left)} == {
        node["id"]: (node["parent"], node["state"], node["attempts"]) for node in nodes(whole)
    }


def test_what_replaces_itself_calls_others_or_dies_is_one_tree(house: House, operator: App, tmp_path: Path) -> None:
    house.start(TASK_LOG_DIR=str(tmp_path / "logs"), TELL=str(tmp_path))
    # When a task is replaced by a chord of which one part is replaced too
    counted = calculator.count_down(2).apply_async()
    assert counted.get(timeout=20) == 3
    found = by_name(tree(operator, counted.id))
    # Then the first has both names, and all the others stand below it
    assert set(found) == {"count_down > calculator.total", "add", "count_down"}
    assert sum(map(len, found.values())) == 5
    # When a task calls another and waits for nothing, then that one is below it
    calling = house.send("chance", 13)
    eventually(
        lambda: "FAILURE" not in str(shape(tree(operator, calling.id))) and bool(tree(operator, calling.id)["children"])
    )
    assert shape(tree(operator, calling.id)) == {"chance": [str({"follow": []})]}
    # When one ends its process again and again, then its dead letter counts how often
    dying = house.send("die")
    eventually(lambda: house.dead_letters() == 1, patience=60)
    died = tree(operator, dying.id)
    assert (died["dead_letter"]["reason"], died["attempts"]) == ("delivery_limit", 6)


def test_an_id_that_nobody_knows_is_told(house: House, operator: App) -> None:
    said = run(operator, "no-such-id")
    assert said.exit_code == 1 and "nobody knows no-such-id" in said.stderr and not said.stdout


def test_a_store_that_is_away_is_told_and_the_others_are_asked(
    house: House, operator: App, redis: OwnRedis, tmp_path: Path
) -> None:
    house.start(TASK_LOG_DIR=str(tmp_path / "logs"))
    done = calculator.add(1, 2).apply_async()
    assert done.get(timeout=20) == 3
    # A result is stored before the log tells of it.
    eventually(lambda: "succeeded" in (tmp_path / "logs" / "calculator.add.log").read_text())
    redis.stop()
    try:
        known, unknown = run(operator, done.id), run(operator, "no-such-id")
    finally:
        redis.start()
    assert known.exit_code == 0 and "SUCCESS" in known.stdout and "the result store does not answer" in known.stderr
    assert unknown.exit_code == 3


def command(app: App, task_id: str, *, environ: dict[str, str], logs: Path) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "celery", "-A", "shared.app", "trace", task_id]
    told = {**os.environ, **environ, "TASK_LOG_DIR": str(logs)}
    return subprocess.run(line, env=told, capture_output=True, text=True, timeout=60, check=False)
