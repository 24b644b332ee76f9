"""docs/canvas.md as a program."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "canvas.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def program(blocks: list[str] = BLOCKS) -> str:
    """The page's blocks as one program that fails at the first line which gives something else."""
    lines = []
    for line in "\n".join(blocks).splitlines():
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
