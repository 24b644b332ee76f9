"""A worker of the calculator, its broker, and who asks the worker how it is."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from shared.app import App, create_app
from shared.config import Settings
from shared.render.worker import worker_arguments
from shared.topology import Pool, dead_letter_queue, service
from tests.mail.servers import OwnBroker, OwnRedis
from tests.mail.waiting import eventually

QUEUE = "calculator"
HOST = "127.0.0.1"


class House:
    """No worker yet.

    Attributes:
        app: publishes as an operator.
        log: of every worker.
        worker: the last that was started.
    """

    def __init__(self, broker: OwnBroker, redis: OwnRedis, folder: Path) -> None:
        self.broker = broker
        self.log = folder / "worker.log"
        self.folder = folder
        self._environ = {**os.environ, **broker.user(QUEUE, redis), "TMPDIR": str(folder), "LOG_LEVEL": "INFO"}
        self.app: App = create_app(settings=Settings.load(broker.user("operator", redis)), current=False)
        self.worker: subprocess.Popen[bytes]
        self._workers: list[subprocess.Popen[bytes]] = []

    def start(
        self, *options: str, pool: Pool = "prefork", concurrency: int = 2, wait: bool = True, **environ: str
    ) -> None:
        """One more worker, with a status port of its own; `options` follow on its command line."""
        arguments = worker_arguments(replace(service(QUEUE), pool=pool, concurrency=(concurrency, concurrency)))
        arguments[arguments.index("-A") + 1] = "tests.watching.app"
        name = f"--hostname={QUEUE}@{len(self._workers)}"
        begins = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", "celery", *arguments, name, *options],
                env={**self._environ, "STATUS_PORT": "0", "STATUS_HOST": HOST, **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._workers.append(self.worker)
        told: list[str] = []

        def listens() -> bool:
            assert self.worker.poll() is None, self.log.read_text()
            told[:] = re.findall(r"status on port (\d+)", self.log.read_text()[begins:])
            return bool(told)

        eventually(listens)
        self.port = int(told[-1])
        if wait:
            eventually(self.ready)

    def ask(self, path: str, timeout: float = 5) -> tuple[int, str]:
        """Status and text of an answer of the last worker's status port."""
        connection = HTTPConnection(HOST, self.port, timeout=timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def ready(self) -> bool:
        return self.ask("/readyz")[0] == 200

    def alive(self) -> bool:
        return self.ask("/healthz")[0] == 200

    def reason(self) -> str:
        """Why it is not ready."""
        return self.ask("/readyz")[1].strip()

    def becomes_unready(self, within: float) -> float:
        """Seconds until the worker says that it takes no work; it is alive all the while."""
        begun = time.monotonic()

        def unready() -> bool:
            assert self.alive(), self.log.read_text()
            return not self.ready()

        eventually(unready, within)
        return time.monotonic() - begun

    def send(self, name: str, *args: Any, **options: Any) -> Any:
        """Publish a task by its name."""
        return self.app.send_task(f"{QUEUE}.{name}", args, **options)

    def works(self) -> bool:
        """Whether a task has an answer."""
        return self.send("add", 2, 3, ignore_result=False).get(timeout=20) == 5

    def children(self) -> list[int]:
        """The processes of the last worker's pool."""
        pid = self.worker.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def signal_pool(self, number: signal.Signals) -> None:
        """A signal to each process of the pool."""
        for child in self.children():
            os.kill(child, number)

    def close(self) -> None:
        """End every worker, and leave nothing for the next test."""
        for worker in self._workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        with self.app.connection_for_write() as connection:
            channel = connection.default_channel
            eventually(lambda: channel.queue_declare(QUEUE, passive=True).consumer_count == 0)
            for queue in (QUEUE, dead_letter_queue(QUEUE)):
                channel.queue_purge(queue)
        self.app.close()
