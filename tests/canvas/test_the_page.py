"""The tour of the canvas is true: its code blocks are run as they stand, and give what they say."""

import subprocess
import sys
from pathlib import Path

import pytest

from shared.config import Settings
from shared.embedded.worker import running
from shared.topology import service
from tests.canvas.page import BLOCKS, ROOT, claims, program

#: What the page must speak of.
PRIMITIVES = (
    *(".s(", ".si(", "chain(", " | ", "group(", "chord(", ".map(", ".starmap(", ".chunks(", "link=", ".on_error("),
    *("count_down(", ".freeze()", "countdown=", "eta=", "expires=", "unsteady(", ".revoke()"),
    *("soft_time_limit=", "time_limit=", "rate_limit("),
)


@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_the_page_shows_each_primitive(primitive: str) -> None:
    assert any(primitive in block for block in BLOCKS)


def test_the_page_is_true_without_a_server(tmp_path: Path) -> None:
    environ = {"LOCAL_DIR": str(tmp_path / "local"), "PATH": "/usr/bin:/bin"}
    with running(service("calculator"), Settings.load(environ), environ, pool="prefork") as log:
        done = subprocess.run(
            [sys.executable, "-c", program()], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, f"{done.stderr}\n{log.read_text()[-3000:]}"
    assert done.stdout.count("ok") == claims()


def test_a_page_that_is_wrong_is_found() -> None:
    # Given a page with a wrong result
    wrong = program(["1 + 1  # -> 3\n"])
    # Then running it fails and names the line
    done = subprocess.run([sys.executable, "-c", wrong], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "1 + 1" in done.stderr
