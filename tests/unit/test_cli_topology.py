"""`celery -A shared.app topology`: what runs, and the files that follow from it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from shared.cli import topology as module
from shared.cli.topology import topology
from shared.errors import TopologyError
from shared.render.files import FILES, HEADER
from shared.topology import SERVICES

ROOT = Path(__file__).parents[2]
PATHS = [str(file.path) for file in FILES]


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(topology, [str(each) for each in arguments])


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """A folder with every file as it should be."""
    assert run("render", "--root", tmp_path).exit_code == 0
    return tmp_path


# --- check ------------------------------------------------------------------------------------------------------------


def test_files_as_they_should_be_pass_the_check(rendered: Path) -> None:
    result = run("check", "--root", rendered)
    assert (result.exit_code, result.stdout) == (0, f"{len(FILES)} files say what the topology says\n")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("change", ["edited", "missing", "empty"])
def test_a_file_that_differs_fails_the_check_by_name(rendered: Path, path: str, change: str) -> None:
    # Given one file that somebody edited, or lost
    file = rendered / path
    if change == "missing":
        file.unlink()
    else:
        file.write_text(file.read_text() + " " if change == "edited" else "")
    # When the files are checked
    result = run("check", "--root", rendered)
    # Then that one is named, and what to do
    assert (result.exit_code, result.stdout) == (1, f"outdated  {path}\n")
    assert "make topology" in result.stderr
    # And checking writes nothing
    assert run("check", "--root", rendered).exit_code == 1


def test_where_nothing_was_rendered_every_file_is_outdated(tmp_path: Path) -> None:
    result = run("check", "--root", tmp_path)
    assert (result.exit_code, result.stdout.split()[1::2]) == (1, PATHS)
    assert not list(tmp_path.iterdir())


# --- render -----------------------------------------------------------------------------------------------------------


def test_rendering_writes_what_is_outdated_and_nothing_else(rendered: Path) -> None:
    # Given one file that somebody edited
    (rendered / PATHS[0]).write_text("edited")
    before = (rendered / PATHS[1]).stat().st_mtime_ns
    # When the files are rendered
    result = run("render", "--root", rendered)
    # Then that one is written, and the others are left as they are
    assert (result.exit_code, result.stdout) == (0, f"written  {PATHS[0]}\n")
    assert f"{len(FILES) - 1} of {len(FILES)} files were up to date" in result.stderr
    assert (rendered / PATHS[1]).stat().st_mtime_ns == before
    assert run("check", "--root", rendered).exit_code == 0


def test_a_generated_file_says_so_in_its_first_line(rendered: Path) -> None:
    for file in FILES:
        if file.path.suffix != ".json":
            assert (rendered / file.path).read_text().startswith(HEADER)


def test_a_root_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert run("render", "--root", tmp_path / "nowhere").exit_code == 2


# --- show -------------------------------------------------------------------------------------------------------------


def test_show_names_every_service_with_its_queue_and_dead_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = run("show")
    assert result.exit_code == 0
    for spec in SERVICES:
        for word in (spec.name, f"{spec.name}.#", "all.#", f"{spec.name}.dead", spec.pool, f"{spec.time_limit} s"):
            assert word in result.stdout


# --- All of them ------------------------------------------------------------------------------------------------------


def test_a_topology_that_contradicts_itself_is_not_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise TopologyError("no")

    monkeypatch.setattr(module, "validate", refuse)
    assert isinstance(run("render", "--root", tmp_path).exception, TopologyError)
    assert not list(tmp_path.iterdir())


def test_they_are_commands_of_celery_itself(tmp_path: Path) -> None:
    # Given a folder where nothing was rendered
    root = tmp_path / "root"
    root.mkdir()

    def celery(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "celery", "-A", "shared.app", "topology", command, "--root", str(root)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "LOCAL_DIR": str(tmp_path / "local")},
            capture_output=True,
            text=True,
            timeout=30,
        )

    # When Celery's own command line checks and renders, then the exit status says what came of it
    assert celery("check").returncode == 1
    assert celery("render").returncode == 0
    assert {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} == set(PATHS)
    assert celery("check").returncode == 0
