"""Who may import whom: services stand on `shared`, and know nothing of each other."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Check the tree at `root` by the contracts in its pyproject.toml."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--config", str(root / "pyproject.toml")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is checked, to break."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("shared", "services"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def add_service(tree: Path, name: str, tasks: str) -> None:
    (tree / "services" / name).mkdir()
    (tree / "services" / name / "__init__.py").touch()
    (tree / "services" / name / "tasks.py").write_text(tasks)


def test_nobody_imports_what_they_may_not() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_copy_of_the_tree_passes_too(tree: Path) -> None:
    # So that what fails below fails for its own reason; with a second service that keeps to itself.
    add_service(tree, "painter", "from shared.tasks import implements\n")
    result = lint_imports(tree)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("shared/storage.py", "from services.reporter import report"),
        ("shared/cli/report.py", "import services.reporter.tasks"),
        ("shared/topology.py", "def late():\n    import services.reporter.github"),
    ],
)
def test_shared_that_imports_a_service_is_found(tree: Path, module: str, line: str) -> None:
    # Given one line too much in `shared`, at its top or inside a function
    with (tree / module).open("a") as file:
        file.write(f"\n\n{line}\n")
    # When the imports are checked
    result = lint_imports(tree)
    # Then the module is named
    assert result.returncode == 1 and "shared imports no service BROKEN" in result.stdout, result.stdout
    assert module.removesuffix(".py").replace("/", ".") in result.stdout


@pytest.mark.parametrize(
    "line", ["from services.reporter import report", "import services.reporter.github", "from services import reporter"]
)
def test_a_service_that_imports_another_is_found(tree: Path, line: str) -> None:
    # Given a second service that uses the code of the first
    add_service(tree, "painter", f"{line}\n")
    # When the imports are checked
    result = lint_imports(tree)
    # Then it is named
    assert result.returncode == 1 and "a service imports no other service BROKEN" in result.stdout, result.stdout
    assert "services.painter" in result.stdout


@pytest.mark.parametrize(
    "line", ["from shared.tasks import implements", "import shared.embedded.worker", "from shared import consumer"]
)
def test_a_gateway_that_could_run_tasks_is_found(tree: Path, line: str) -> None:
    with (tree / "services/gateway/submit.py").open("a") as file:
        file.write(f"\n\n{line}\n")
    result = lint_imports(tree)
    assert result.returncode == 1 and "the gateway publishes, and runs no task BROKEN" in result.stdout, result.stdout
