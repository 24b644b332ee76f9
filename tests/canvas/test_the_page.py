"""The tour of the canvas is true: its code blocks are run as they stand, and give what they say."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.config import Settings
from shared.embedded.worker import running
from shared.topology import service
from tests.e2e.conftest import *  # noqa: F403  # the cluster, started once a session
from tests.e2e.houses import ComposeHouse

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "canvas.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)

#: What the page must speak of.
PRIMITIVES = (
    *(".s(", ".si(", "chain(", " | ", "group(", "chord(", ".map(", ".starmap(", ".chunks(", "link=", ".on_error("),
    *("count_down(", ".freeze()", "countdown=", "eta=", "expires=", "unsteady(", ".revoke()"),
    *("soft_time_limit=", "time_limit=", "rate_limit("),
)


def program() -> str:
    """The page's blocks as one program that fails at the first line which gives something else."""
    lines = []
    for line in "\n".join(BLOCKS).splitlines():
        code, arrow, expected = line.partition("  # -> ")
        if arrow:
            ast.parse(code, mode="eval")
            lines.append(f"_got = {code}\nassert _got == {expected}, ({code!r}, _got)\nprint('ok')")
        else:
            lines.append(line)
    return "\n".join(lines)


def claims() -> int:
    """How many lines say what they give."""
    return sum("  # -> " in line for block in BLOCKS for line in block.splitlines())


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


@pytest.mark.containers
def test_the_page_is_true_in_the_cluster(compose: ComposeHouse) -> None:
    done = compose.publisher(program())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok") == claims()


def test_a_page_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a page with a wrong result
    monkeypatch.setattr(sys.modules[__name__], "BLOCKS", ["1 + 1  # -> 3\n"])
    # Then running it fails and names the line
    done = subprocess.run([sys.executable, "-c", program()], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "1 + 1" in done.stderr
