"""What a developer is given: a worker that follows the code, a debugger, hooks, and a list of what can be set."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_ports
from tests.services.copies import ROOT, Copy
from tests.waiting import eventually


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    copy = Copy(tmp_path_factory.mktemp("copy") / "taskhouse")
    copy.run("make", "-s", "COMPOSE=:", "new-service", "NAME=painter")
    return copy


@contextmanager
def dev(copy: Copy, folder: Path, **variables: str) -> Iterator[Path]:
    """`make dev` of the copy's service; gives its log."""
    log = folder / "console"
    environ = os.environ | {"PYTHONPATH": str(copy.root), "LOCAL_DIR": str(folder)} | variables
    with log.open("wb") as output:
        command = ["make", "-s", "dev", "SERVICE=painter"]
        process = subprocess.Popen(
            command, cwd=copy.root, env=environ, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield log
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(40)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def test_a_worker_follows_its_code(copy: Copy, tmp_path: Path) -> None:
    def answer() -> str:
        call = (sys.executable, "-m", "celery", "-A", "shared.app", "call", "painter.example", "text=a", "--wait")
        return copy.attempt(*call, environ={"LOCAL_DIR": str(tmp_path)}).stdout.strip()

    # Given its worker, which answers as it is written
    with dev(copy, tmp_path) as log:
        eventually(lambda: any((tmp_path / "health").glob("painter-*")), patience=60)
        assert answer() == "A"
        # And nobody started another one for that
        assert not (tmp_path / "log" / "painter.log").exists()
        # When its code changes
        tasks = copy.root / "services/painter/tasks.py"
        tasks.write_text(tasks.read_text().replace("return text.upper()", 'return f"{text}!"'))
        # Then it answers as it is written now
        eventually(lambda: answer() == "a!", patience=60)
        assert "changed  services/painter/tasks.py" in log.read_text()


def test_a_debugger_may_attach(copy: Copy, tmp_path: Path) -> None:
    (port,) = free_ports(1)

    def speaks() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                # A debug adapter speaks first.
                return connection.recv(15) == b"Content-Length:"
        except OSError:
            return False

    with dev(copy, tmp_path, DEBUG=str(port)):
        eventually(speaks, patience=60)


def test_the_hooks_hold_a_bad_commit_back(copy: Copy) -> None:
    # Given the hooks, a file that is laid out badly, and one that follows from the topology and does not
    copy.run("git", "add", "-A")
    bad = copy.root / "shared/bad.py"
    bad.write_text("x = {  'a':1 }\n")
    (copy.root / "compose/workers.yaml").write_text("# mine\n")
    copy.run("git", "add", "-A")

    # When they run
    done = copy.attempt(".venv/bin/pre-commit", "run", environ={"PRE_COMMIT_HOME": str(copy.root / ".cache")})

    # Then both are told, and the first is mended
    assert done.returncode != 0
    assert "outdated  compose/workers.yaml" in done.stdout
    assert bad.read_text() == 'x = {"a": 1}\n'


def test_the_example_of_settings_is_whole() -> None:
    # Given every variable that the compose files take over
    files = [ROOT / "compose.yaml", *(ROOT / "compose").glob("*.yaml")]
    taken = {name for path in files for name in re.findall(r"\$\{([A-Z][A-Z0-9_]*)", path.read_text())}
    # Then .env.example tells of each, and of none besides; of the pools, one for all
    told = set(re.findall(r"^#([A-Z][A-Z0-9_]*)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert told - {"CALCULATOR_POOL"} == {name for name in taken if not name.endswith("_POOL")}
