"""A worker of the calculator, its broker, and who asks the worker how it is."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from shared.app import App, create_app
from shared.config import Settings
from shared.render.worker import worker_arguments
from shared.spec import Pool
from shared.topology import dead_letter_queue, service
from tests.ports import free_port
from tests.servers import OwnBroker, OwnRedis
from tests.waiting import eventually

QUEUE = "calculator"
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Metrics:
    """The samples of one scrape, by name and labels."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    @classmethod
    def read(cls, text: str) -> "Metrics":
        """From Prometheus' text format."""
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return cls({(one.name, frozenset(one.labels.items())): one.value for one in samples})

    def __call__(self, name: str, **labels: str) -> float:
        """A sample's value, its name without `taskhouse_`; 0 where there is none."""
        return self.samples.get((f"taskhouse_{name}", frozenset(labels.items())), 0)

    def all(self, name: str, label: str) -> dict[str, float]:
        """Sums by one label."""
        found: dict[str, float] = {}
        for (sample, labels), value in self.samples.items():
            if sample == f"taskhouse_{name}":
                found[dict(labels)[label]] = found.get(dict(labels)[label], 0) + value
        return found


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
        self, *, pool: Pool = "prefork", concurrency: int = 2, recycled: int | None = None, **environ: str
    ) -> None:
        """One more worker, with a status port of its own; a process is replaced after `recycled` tasks."""
        arguments = worker_arguments(replace(service(QUEUE), pool=pool, concurrency=(concurrency, concurrency)))
        arguments[arguments.index("-A") + 1] = "tests.watching.app"
        if recycled is not None:
            arguments.append(f"--max-tasks-per-child={recycled}")
        name = f"--hostname={QUEUE}@{len(self._workers)}"
        self.port = free_port()
        with self.log.open("ab") as output:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", "celery", *arguments, name],
                env={**self._environ, "STATUS_PORT": str(self.port), "STATUS_HOST": HOST, **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._workers.append(self.worker)
        eventually(self._listens)
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

    def _listens(self) -> bool:
        assert self.worker.poll() is None, self.log.read_text()
        try:
            return self.alive()
        except ConnectionRefusedError:
            return False

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

    def metrics(self) -> Metrics:
        """What the last worker has counted."""
        status, text = self.ask("/metrics")
        assert status == 200
        return Metrics.read(text)

    def dead_letters(self) -> int:
        """How many the broker has."""
        with self.app.connection_for_write() as connection:
            return connection.default_channel.queue_declare(dead_letter_queue(QUEUE), passive=True).message_count

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
