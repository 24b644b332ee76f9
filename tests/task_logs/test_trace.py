"""`celery -A shared.app trace ID` without a server."""

import json
from types import SimpleNamespace
from typing import Any

from celery import chord, group
from click.testing import CliRunner

from shared.cli.trace import trace
from shared.signatures import calculator
from tests.task_logs.conftest import MakeHouse


def told(house: Any, *arguments: str) -> Any:
    result = CliRunner().invoke(trace, [*arguments, "--format", "json"], obj=SimpleNamespace(app=house.app))
    assert result.exit_code == 0, result.output
    assert "TASK_LOG_DIR is not set" in result.stderr
    return json.loads(result.stdout)


def test_a_tree_is_told_from_the_embedded_result_store(worker: MakeHouse) -> None:
    with worker() as house:
        # When a task is followed by two at once
        canvas = (calculator.add(1, 2) | group(calculator.add.s(3), calculator.multiply.s(4))).delay()
        assert canvas.get(timeout=20) == [6, 12]
        # Then its tree is told by any id of it, by its results alone
        tree = told(house, canvas.results[1].id)
        assert tree == told(house, canvas.results[0].id) == told(house, canvas.id)
        assert tree["task"] == "calculator.add" and tree["wait"] >= 0 and tree["run"] >= 0
        assert sorted(child["task"] for child in tree["children"]) == ["calculator.add", "calculator.multiply"]
        assert {child["group"] for child in tree["children"]} == {canvas.id}
        assert {child["state"] for child in tree["children"]} == {"SUCCESS"}
        # And so is that of a group, or a chord, that nothing came before
        for alone in (group, lambda parts: chord(parts, calculator.total.s())):
            called = alone([calculator.add(1, 2), calculator.multiply(3, 4)]).delay()
            assert called.get(timeout=20) in ([3, 12], 15)
            parts = called.parent or called
            tree = told(house, parts.id)
            assert (
                tree == told(house, called.id) == told(house, parts.results[0].id) == told(house, parts.results[1].id)
            )
            assert (tree["task"], tree["id"], tree["state"]) == ("group", parts.id, "")
            assert {child["id"] for child in tree["children"]} == {one.id for one in parts.results}
            below = [under["task"] for child in tree["children"] for under in child["children"]]
            assert below == (["calculator.total"] if called.parent else [])
        # And an id that nobody knows is told as such
        unknown = CliRunner().invoke(trace, ["nobody"], obj=SimpleNamespace(app=house.app))
        assert unknown.exit_code == 1 and "nobody knows nobody" in unknown.stderr
