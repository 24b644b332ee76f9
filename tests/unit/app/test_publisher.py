"""The app of whoever imports a signature."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.app import App
from shared.config import Settings
from tests.unit.app.recording import MakeApp, announced

ROOT = Path(__file__).parents[3]


def test_the_publishers_app_is_made_at_first_use(tmp_path: Path) -> None:
    # Given a process that imports the module, as a worker does
    code = """
import shared.app
import shared.celery_config
assert "app" not in vars(shared.app)
assert shared.app.app is shared.app.app and shared.app.app.spec is None
try:
    shared.app.other
except AttributeError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT), "LOCAL_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    # Then the app is there when it is asked for, once
    assert done.stdout == "module 'shared.app' has no attribute 'other'\n", done.stderr


def test_settings_of_a_test_do_not_reach_the_repository(make_app: MakeApp, tmp_path: Path) -> None:
    assert make_app().settings == Settings(local_dir=tmp_path / "local")


@pytest.mark.parametrize(
    ("name", "kept"), [("reporter.produce_report", True), ("nobody.does_this", False), ("reporter.unknown", False)]
)
def test_a_call_by_name_keeps_a_result_only_where_the_declaration_says_so(
    make_app: MakeApp, name: str, kept: bool
) -> None:
    # Given a publisher
    app = make_app()

    # When it calls a task by its name alone
    with announced() as heard:
        app.send_task(name, kwargs={})

    # Then the worker is told whether somebody reads the result, and the result store is not asked otherwise
    assert heard[0]["headers"]["ignore_result"] is not kept


def test_the_log_level_is_the_one_that_was_set(make_app: Callable[..., App], monkeypatch: pytest.MonkeyPatch) -> None:
    # When an app is made with LOG_LEVEL
    make_app("reporter", log_level="DEBUG")

    # Then `celery worker` and `celery beat` take it, unless their command line says otherwise
    assert os.environ["CELERY_WORKER_LOGLEVEL"] == os.environ["CELERY_BEAT_LOGLEVEL"] == "DEBUG"
