"""The gateway as it is served: by uvicorn, on a port of its own."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from services.gateway.app import build
from services.gateway.settings import GatewaySettings
from shared.config import Settings
from shared.embedded import worker
from shared.embedded.transport import Transport
from shared.topology import service
from tests.ports import free_port

#: Seconds for anything that should take a moment.
PATIENCE = 30.0


class Site(httpx.Client):
    """A client of a served gateway.

    Attributes:
        app: the served app, where it is of this process; `app.state.house` holds its parts.
    """

    def __init__(self, url: str, app: Any = None) -> None:
        super().__init__(base_url=url, timeout=PATIENCE)
        self.app = app
        self.url = url


#: Serves a gateway with the settings that it is called with.
Serve = Callable[..., Site]


@contextmanager
def serving(settings: GatewaySettings) -> Iterator[Site]:
    """Serve a gateway with these settings until the block ends."""
    # kombu remembers for the whole process what is bound, whatever the folder.
    Transport.global_state.clear()
    app = build(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, name="gateway")
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        port = server.servers[0].sockets[0].getsockname()[1]
        with Site(f"http://127.0.0.1:{port}", app) as site:
            yield site
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


def until(condition: Any, timeout: float = PATIENCE) -> Any:
    """Wait until `condition()` is true; gives what it gave."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(0.01)
    return found


@contextmanager
def whole_house(folder: Path, github: str, **environ: str) -> Iterator[str]:
    """A worker and a gateway, each a process of its own as embedded users start them; gives the gateway's URL.

    Args:
        folder: for all that they keep.
        github: URL of the GitHub that the worker asks.
        environ: more of the gateway's settings.
    """
    ours = embedded(folder, github)
    with worker.running(service("reporter"), Settings.load(ours), ours), gateway({**ours, **environ}) as served:
        yield served.url


def embedded(folder: Path, github: str) -> dict[str, str]:
    """The environment of a process of an embedded house."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("BROKER_URL", "REDIS_URL")}
    return {**inherited, "LOCAL_DIR": str(folder), "GITHUB_API_URL": github}


@dataclass(frozen=True)
class Gateway:
    """A served gateway, and its process."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def gateway(environ: Mapping[str, str], port: int | None = None) -> Iterator[Gateway]:
    """A gateway as a process of its own, which must also end as it should."""
    port = port or free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "services.gateway.app:create", f"--port={port}"]
    process = subprocess.Popen([*command, "--log-level=warning"], env=environ)
    try:
        until(lambda: process.poll() is not None or _answers(f"http://127.0.0.1:{port}/readyz"))
        yield Gateway(f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        # In order, and then, as uvicorn does it, of the signal.
        assert process.wait(PATIENCE) in (0, -signal.SIGTERM)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def submit(site: Site, **arguments: Any) -> str:
    """Ask for a report; gives the task's id."""
    answer = site.post("/reports", json=arguments)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def finished(site: Site, task_id: str) -> dict[str, Any]:
    """The task's state once it is final."""
    return until(lambda: state if (state := site.get(f"/tasks/{task_id}").json())["final"] else None)


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document that `answer` must be; checked as far as all of them are alike."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status and document["code"] == code and document["title"] and document["detail"]
    return document
