"""The images as they are built: how large they are over their base, and how soon one has done its first task."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.peers.servers import Servers, docker
from bench.waiting import PATIENCE
from shared.app import create_app
from shared.config import Settings
from shared.render.worker import worker_arguments
from shared.signatures import calculator
from shared.topology import service

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "services" / "Dockerfile"
TAG = "bench"
#: What compose/defaults.yaml says of every worker.
HARDENED = (
    "--init",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges:true",
    "--tmpfs=/tmp:mode=1777",
)


def build(name: str) -> str:
    """Build an image from this tree, from Docker's cache where it can be; gives its name."""
    image = f"taskhouse/{name}:{TAG}"
    docker("build", "--quiet", f"--file={DOCKERFILE}", f"--build-arg=SERVICE={name}", f"--tag={image}", str(ROOT))
    return image


def over_base(image: str) -> float:
    """MiB of an image beside those of the image that it stands on."""
    base = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert base is not None
    size, below = (one["Size"] for one in json.loads(docker("image", "inspect", image, base[1])))
    return (size - below) / 2**20


def first_task(servers: Servers, image: str) -> float:
    """Seconds from `docker run` of the calculator's worker to the result of a task that waits for it."""
    app = create_app(settings=Settings.load(servers.of("operator")), current=False)
    waiting: Any = app.signature(dict(calculator.add(1, 2))).apply_async()
    begin = time.perf_counter()
    with _worker(servers, image):
        waiting.get(timeout=PATIENCE)
        seconds = time.perf_counter() - begin
    app.close()
    return seconds


@contextmanager
def _worker(servers: Servers, image: str) -> Iterator[None]:
    environ = servers.of("calculator")
    password = Path(environ["BROKER_PASSWORD_FILE"])
    owner = password.stat()
    own = {"BROKER_PASSWORD_FILE": "/run/secrets/broker_password", "TASK_LOG_DIR": "/tmp", "LOG_LEVEL": "ERROR"}
    given = [f"--env={name}={value}" for name, value in (environ | own).items()]
    # The servers listen on this machine's loopback. The passwords belong to whoever runs this.
    given += ["--network=host", f"--user={owner.st_uid}:{owner.st_gid}", f"--volume={password.parent}:/run/secrets:ro"]
    container = docker("run", "--detach", *HARDENED, *given, image, *worker_arguments(service("calculator"))).strip()
    try:
        yield
    finally:
        docker("rm", "--force", "--volumes", container)
