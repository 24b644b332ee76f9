"""docs/adding-a-service.md, done word for word: in a clean copy, on a house of its own."""

import json
import re
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import needs_docker
from tests.ports import free_ports
from tests.services.copies import ROOT, Copy

pytestmark = pytest.mark.containers

PAGE = ROOT / "docs/adding-a-service.md"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORTS = ("RABBITMQ_PORT", "RABBITMQ_MANAGEMENT_PORT")
#: Lines of the user's own that the page may ask for, those of the test not counted.
FEW = 40
#: Seconds until a new service runs, on a busy machine; on one that has built an image before and does nothing else
#: it is a third of that.
SOON = 180


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Copy]:
    """A copy whose house has a name, ports, volumes and images of its own."""
    needs_docker()
    copy = Copy(tmp_path / "taskhouse")
    name = f"taskhouse-adding-{tmp_path.parent.name.rpartition('-')[2]}"
    environ = {"COMPOSE_PROJECT_NAME": name, "TAG": name, "COMPOSE_FILE": "compose.yaml", "COMPOSE_PROFILES": ""}
    environ |= {variable: str(port) for variable, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    try:
        yield copy
    finally:
        copy.attempt("docker", "compose", "--profile", "*", "down", "--volumes", "--timeout", "5", "--rmi", "all")
        copy.attempt("docker", "image", "rm", f"taskhouse/thumbnailer:{name}")


def test_the_page_is_true(copy: Copy) -> None:
    # Given a house that runs, and a picture
    copy.run("docker", "compose", "up", "-d", "--wait", "rabbitmq", "redis", timeout=600)
    (copy.root / "holiday.png").write_bytes(png(640, 480))
    mine = 0
    said = ""

    # When all is done that the page says, in its order, then each answer is the one that it shows
    for kind, path, text in BLOCK.findall(PAGE.read_text()):
        if kind == "sh":
            begun = time.monotonic()
            said = [copy.run("bash", "-euc", line, timeout=600) for line in text.splitlines()][-1]
            if "up -d --wait thumbnailer" in text:
                assert time.monotonic() - begun < SOON
        elif kind == "python":
            (copy.root / path).write_text(text)
            mine += sum(bool(line.strip()) for line in text.splitlines()) if "tests" not in path else 0
        elif kind == "json":
            assert json.loads(said) == json.loads(text)
        else:
            assert said == text

    # And it was little, and nothing is left of it
    assert 0 < mine <= FEW
    (copy.root / "holiday.png").unlink()
    assert copy.changes() == ""


def test_what_the_page_shows_is_written_as_the_project_writes(tmp_path: Path) -> None:
    copy = Copy(tmp_path / "taskhouse")
    copy.run("make", "-s", "COMPOSE=:", "new-service", "NAME=thumbnailer")
    for kind, path, text in BLOCK.findall(PAGE.read_text()):
        if kind == "python":
            (copy.root / path).write_text(text)
    copy.run(".venv/bin/ruff", "check", "--no-cache", ".")
    copy.run(".venv/bin/ruff", "format", "--no-cache", "--check", ".")


def png(width: int, height: int) -> bytes:
    """A picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\x20\x80\xf0" * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
