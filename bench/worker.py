"""A service's worker as it is shipped, with its metrics and its task logs on, on this machine."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers.servers import Servers
from bench.waiting import PATIENCE, until
from shared.render.worker import worker_arguments
from shared.topology import service
from tests.ports import free_port

#: What the images start.
COMMAND = Path(sys.executable).with_name("taskhouse")


@contextmanager
def worker(servers: Servers, name: str, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """A service's worker, which consumes."""
    with tempfile.TemporaryDirectory() as folder:
        health = Path(folder, "health")
        own = {"HEALTH_FILE": str(health), "TASK_LOG_DIR": folder, "REPORTS_URL": folder, "LOG_LEVEL": "ERROR"}
        process = subprocess.Popen(
            [str(COMMAND), *worker_arguments(service(name))],
            env={**os.environ, **servers.of(name), **own, "STATUS_PORT": str(free_port()), **settings},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            until(lambda: health.exists() or process.poll() is not None, f"the worker of {name} consumes")
            yield process
        finally:
            process.terminate()
            process.wait(PATIENCE)
