"""The mailer's worker with RabbitMQ, Redis and a prefork pool."""

import os
import re
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from urllib.request import urlopen

from celery import Signature
from celery.result import AsyncResult
from prometheus_client.parser import text_string_to_metric_families

from shared.app import App, create_app
from shared.config import Settings
from shared.render.worker import worker_arguments
from shared.topology import dead_letter_queue, service
from tests.ports import free_port
from tests.servers import OwnBroker, OwnRedis
from tests.stand_ins.smtp import SmtpStandIn
from tests.waiting import eventually

DEAD = dead_letter_queue("mailer")


class Cluster:
    """The mailer's worker on this machine, beside a real broker and a real Redis."""

    def __init__(self, broker: OwnBroker, redis: OwnRedis, smtp: SmtpStandIn, folder: Path) -> None:
        self._port = free_port()
        self._environ = {
            **os.environ,
            **broker.user("mailer", redis),
            "SMTP_URL": smtp.url,
            "SMTP_TIMEOUT": "1",
            "MAIL_LEASE": "1.5",
            "REPORTS_URL": str(folder / "reports"),
            "STATUS_HOST": "127.0.0.1",
            # What it counts by itself while Redis is away lies there.
            "TMPDIR": str(folder),
        }
        self.log = folder / "worker.log"
        self.app: App = create_app(settings=Settings.load(broker.user("operator", redis)), current=False)
        self._workers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """One more worker."""
        health = self.log.with_name(f"consuming-{uuid.uuid4()}")
        # One of several counts where it is asked.
        status = {} if self._workers else {"STATUS_PORT": str(self._port)}
        with self.log.open("ab") as output:
            worker = subprocess.Popen(
                [sys.executable, "-m", "celery", *worker_arguments(service("mailer"))],
                env={**self._environ, **status, "HEALTH_FILE": str(health)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._workers.append(worker)
        eventually(lambda: health.exists() or worker.poll() is not None)
        assert health.exists(), self.log.read_text()

    def publish(self, signature: Signature) -> AsyncResult:
        """Publish as an operator; gives the answer that will come."""
        return self.app.send_task(signature.task, kwargs=signature.kwargs, **signature.options)

    def send(self, signatures: Iterable[Signature]) -> None:
        """Publish all of them."""
        for signature in signatures:
            self.publish(signature)

    def mails(self) -> Counter[tuple[str, str]]:
        """How many the first worker has counted, by kind and by what became of them."""
        with urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        return Counter(
            {
                (sample.labels["kind"], sample.labels["outcome"]): int(sample.value)
                for family in families
                for sample in family.samples
                if sample.name == "taskhouse_mails_total"
            }
        )

    def has_done(self, answers: Iterable[AsyncResult]) -> bool:
        """Whether the worker's log says so of each of these tasks, whose results nobody keeps."""
        done = set(re.findall(r"\[([\w-]{36})\] succeeded in", self.log.read_text()))
        return done >= {answer.id for answer in answers}

    def kill_pool(self) -> None:
        """kill -9 to every child of the last worker's pool."""
        pid = self._workers[-1].pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)

    def kill(self) -> None:
        """kill -9 to the last worker and its pool, as when its container goes."""
        os.killpg(self._workers[-1].pid, signal.SIGKILL)

    def close(self) -> None:
        """End every worker, and leave nothing for the next test."""
        for worker in self._workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        with self.app.connection_for_write() as connection:
            channel = connection.default_channel
            # What a killed worker held comes back when the broker has seen that it is gone.
            eventually(lambda: channel.queue_declare("mailer", passive=True).consumer_count == 0)
            for queue in ("mailer", DEAD):
                channel.queue_purge(queue)
        self.app.close()

    def dead_letters(self) -> int:
        """How many lie in the mailer's dead-letter queue."""
        with self.app.connection_for_write() as connection:
            return int(connection.default_channel.queue_declare(DEAD, passive=True).message_count)
