"""A file that says that this worker consumes its queue."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared.app import App
from shared.config import Settings
from shared.embedded.worker import WorkerDied, running
from shared.health import INTERVAL, HealthFile
from shared.topology import service

ROOT = Path(__file__).parents[2]


def until(condition: Callable[[], object], seconds: float = 20) -> bool:
    """Wait for `condition`; whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def consumer(path: Path, consuming: list[str] | None) -> Any:
    """What a health file sees of Celery's consumer; with None, it has no connection."""
    queues = SimpleNamespace(consume_from={"reporter": None, "second": None})
    return SimpleNamespace(
        app=SimpleNamespace(settings=Settings(health_file=path), amqp=SimpleNamespace(queues=queues)),
        task_consumer=None if consuming is None else SimpleNamespace(consuming_from=lambda name: name in consuming),
        timer=SimpleNamespace(call_after=lambda *asked: Timer(asked)),
    )


class Timer:
    """A later call that a test makes by itself."""

    def __init__(self, asked: tuple[float, Callable[..., None], tuple[Any, ...]]) -> None:
        self.seconds, self.function, self.args = asked
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def tick(self) -> None:
        self.function(*self.args)


# --- A real worker ----------------------------------------------------------------------------------------------------


def test_a_worker_makes_its_file_again_and_takes_it_away_at_its_end(
    make_app: Callable[..., App], tmp_path: Path
) -> None:
    # Given a worker that runs
    app = make_app()
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with running(service("reporter"), app.settings, environ) as log:
        # Then its file is there
        [file] = (tmp_path / "local" / "health").iterdir()
        # When somebody checks, by deleting it
        file.unlink()
        # Then the worker consumes: a task that it refuses has an answer
        result = app.send_task("reporter.fetch_repos", kwargs={"since": "2026-01-01", "per_page": 0, "page": 1})
        assert until(result.ready), log.read_text()
        assert "per_page: Input should be greater than or equal to 1" in str(result.result)
        # And its file comes back
        assert until(file.exists), log.read_text()
    # When it ends, then its file is gone
    assert not file.exists()
    # And nothing was written elsewhere
    assert log == tmp_path / "local" / "log" / "reporter.log"


def test_a_worker_that_cannot_start_is_reported_with_its_log(tmp_path: Path) -> None:
    # Given a worker with a wrong setting
    settings = Settings(local_dir=tmp_path)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PUBLISH_TIMEOUT": "never"}
    # When it is started, then the error names its log, where the reason stands
    with (
        pytest.raises(WorkerDied, match=r"ended with status \d+: see .*reporter\.log"),
        running(service("reporter"), settings, environ),
    ):
        pytest.fail("must not run")
    assert "PUBLISH_TIMEOUT" in (tmp_path / "log" / "reporter.log").read_text()


# --- When there is no file --------------------------------------------------------------------------------------------


def test_a_worker_that_consumes_all_its_queues_makes_the_file_at_once_and_repeatedly(tmp_path: Path) -> None:
    # Given a worker that consumes
    path = tmp_path / "health"
    worker = consumer(path, ["reporter", "second"])
    step = HealthFile(worker)
    # When it starts, then the file is there
    step.start(worker)
    assert path.exists()
    # When it was deleted, then the worker's own loop makes it again
    path.unlink()
    assert step.timer.seconds == INTERVAL
    step.timer.tick()
    assert path.exists()


@pytest.mark.parametrize("consuming", [None, [], ["reporter"]], ids=json.dumps)
def test_a_worker_that_does_not_consume_makes_no_file(tmp_path: Path, consuming: list[str] | None) -> None:
    # Given a worker that is connected, at most, but does not consume every one of its queues
    path = tmp_path / "health"
    worker = consumer(path, consuming)
    step = HealthFile(worker)
    # Then there is no file, neither at once nor later
    step.start(worker)
    step.timer.tick()
    assert not path.exists()


def test_a_worker_that_lost_its_connection_takes_its_file_away(tmp_path: Path) -> None:
    # Given a worker that consumed
    path = tmp_path / "health"
    worker = consumer(path, ["reporter", "second"])
    step = HealthFile(worker)
    step.start(worker)
    timer = step.timer
    # When its connection is gone, which stops this step, perhaps twice
    step.stop(worker)
    step.stop(worker)
    # Then the file is gone, and nobody makes it again
    assert not path.exists() and timer.cancelled


def test_a_file_that_cannot_be_made_is_told_and_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    worker = consumer(tmp_path / "nowhere" / "health", ["reporter", "second"])
    HealthFile(worker).start(worker)
    assert "HEALTH_FILE: cannot make" in caplog.text and "No such file" in caplog.text
