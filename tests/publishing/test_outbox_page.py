"""docs/outbox.md does what it says: its code and its commands, as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.config import Settings
from tests.mail.test_examples import DJANGO, running, status

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "outbox.md").read_text()


def blocks(language: str) -> str:
    """All code of a language, in its order."""
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return "\n".join(found)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Without any server."""
    hidden = {field.upper() for field in Settings.model_fields}
    kept = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in hidden}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**kept, "PYTHONPATH": str(ROOT), "LOCAL_DIR": str(tmp_path / "local"), "PATH": path}


def test_the_pages_code_runs_as_it_stands(tmp_path: Path, environ: dict[str, str]) -> None:
    # The tasks are recorded
    done = subprocess.run(
        [sys.executable, "-c", blocks("python")],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    # And its commands publish them, without a server, and find nothing to complain of
    done = subprocess.run(
        ["bash", "-euc", blocks("sh")], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "3 published, 0 parked" in done.stderr


def test_the_django_example_stores_an_order_with_its_confirmation(tmp_path: Path, environ: dict[str, str]) -> None:
    subprocess.run([sys.executable, "examples/django/manage.py", "migrate", "-v0"], cwd=ROOT, env=environ, check=True)
    with running(DJANGO, environ) as url:
        assert status(f"{url}/order", "address=ann@example.org") == 200
        assert status(f"{url}/order", "address=ann@example.org&card=declined") == 500
    command = [*"celery -A shared.app outbox --database".split(), f"sqlite:///{tmp_path / 'local' / 'shop.sqlite'}"]
    done = subprocess.run([*command, "relay", "--once"], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0 and "1 published" in done.stderr, done.stderr
