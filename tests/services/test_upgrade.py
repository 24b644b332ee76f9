"""Old and new publishers and workers meet, as they do while an upgrade rolls."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.services.copies import Copy
from tests.waiting import eventually

CONTRACT = (sys.executable, "-m", "celery", "-A", "shared.app", "contract")
OLD = 'def example(text: Annotated[str, Field(max_length=1000)] = "hello") -> str:'
NEW = 'def example(text: Annotated[str, Field(max_length=1000)] = "hello", loud: bool = True) -> str:'


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Copy]:
    """A service, and the same one after its task got an argument that may be left out."""
    trees = {name: Copy(tmp_path_factory.mktemp(name) / "taskhouse") for name in ("old", "new")}
    for tree in trees.values():
        tree.run("make", "-s", "COMPOSE=:", "new-service", "NAME=painter")
    root = trees["new"].root
    for path, before, after in (
        ("shared/signatures/painter.py", OLD, NEW),
        ("services/painter/tasks.py", "def example(task, text):", "def example(task, text, loud):"),
        ("services/painter/tasks.py", "return text.upper()", "return text.upper() if loud else text"),
    ):
        text = (root / path).read_text()
        assert before in text
        (root / path).write_text(text.replace(before, after))
    return trees


@contextmanager
def worker(tree: Copy, folder: Path) -> Iterator[None]:
    """The service's worker, as this tree has it."""
    health = folder / "consumes"
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "services.painter.app",
        "worker",
        "--queues=painter",
        "--pool=solo",
    ]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=tree.root,
            env={
                "PATH": "/usr/bin:/bin",
                "PYTHONPATH": str(tree.root),
                "LOCAL_DIR": str(folder),
                "HEALTH_FILE": str(health),
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(health.exists)
        yield
    finally:
        process.terminate()
        process.wait(30)


PUBLISH = """
import json, sys
from shared.app import app
from shared.signatures import painter
try:
    print(json.dumps(app.signature(dict(painter.example(**json.loads(sys.argv[1])))).apply_async().get(timeout=30)))
except Exception as error:
    print(json.dumps({"error": str(error)}))
"""


def publish(tree: Copy, folder: Path, **arguments: object) -> object:
    """What the task gives that this tree publishes."""
    given = json.dumps(arguments)
    return json.loads(tree.run(sys.executable, "-c", PUBLISH, given, environ={"LOCAL_DIR": str(folder)}))


def test_an_upgrade_rolls(trees: dict[str, Copy], tmp_path: Path) -> None:
    old, new = trees["old"], trees["new"]
    # Given that the comparison of both says: workers first
    (tmp_path / "old.json").write_text(
        old.run(sys.executable, "-m", "celery", "-A", "shared.app", "contract", "export")
    )
    told = new.run(sys.executable, "-m", "celery", "-A", "shared.app", "contract", "diff", str(tmp_path / "old.json"))
    assert told == "workers first  painter.example: the argument loud is new and may be left out\n"

    # Then a new worker does what an old publisher wants, and what a new one does
    with worker(new, tmp_path):
        assert publish(old, tmp_path, text="a") == "A"
        assert publish(new, tmp_path, text="a", loud=False) == "a"
    # And an old worker what a new publisher wants, until that uses what is new: this is refused, with its reason
    with worker(old, tmp_path):
        assert publish(new, tmp_path, text="a") == "A"
        refused = publish(new, tmp_path, text="a", loud=False)
    assert isinstance(refused, dict) and "loud" in refused["error"]
