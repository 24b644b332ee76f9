"""A service's worker as a child process, for as long as it is needed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from shared.config import Settings
from shared.errors import Error
from shared.health import READY_WITHIN
from shared.render.worker import embedded_arguments
from shared.spec import Pool, ServiceSpec

#: Seconds that a worker may take until it consumes, and to finish its tasks when it is stopped.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0


class WorkerDied(Error):
    """The embedded worker ended, or did not begin. The message names its log."""


@contextmanager
def running(
    spec: ServiceSpec, settings: Settings, environ: Mapping[str, str] = os.environ, pool: Pool = "threads"
) -> Iterator[Path]:
    """Run the worker of `spec` beside this process until the block ends; gives the path of its log.

    Raises:
        WorkerDied: it ended by itself, or consumes nothing after START_TIMEOUT.
    """
    root = settings.local_dir.absolute()
    log = root / "log" / f"{spec.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    health = health_file(spec, settings, str(os.getpid()))
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", *embedded_arguments(spec, pool)],
            env={**environ, "LOCAL_DIR": str(root), "HEALTH_FILE": str(health)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A Ctrl-C in the terminal is for us; the worker is stopped below.
            start_new_session=True,
        )
        try:
            _wait_until_it_consumes(process, health, log)
            yield log
        finally:
            _stop(process)


def health_file(spec: ServiceSpec, settings: Settings, whose: str) -> Path:
    """Where a worker of this folder says that it takes work; `whose` tells those of one service apart."""
    path = settings.local_dir.absolute() / "health" / f"{spec.name}-{whose}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return path


def consuming(spec: ServiceSpec, settings: Settings) -> bool:
    """Whether a worker of this service works in this folder already: `make dev`, say."""
    said = (settings.local_dir.absolute() / "health").glob(f"{spec.name}-*")
    return any(time.time() - path.stat().st_mtime < READY_WITHIN for path in said)


def _wait_until_it_consumes(process: subprocess.Popen[bytes], health: Path, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not health.exists():
        if process.poll() is not None:
            raise WorkerDied(f"the embedded worker ended with status {process.returncode}: see {log}")
        if time.monotonic() > deadline:
            raise WorkerDied(f"the embedded worker consumes nothing after {START_TIMEOUT:.0f} s: see {log}")
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
