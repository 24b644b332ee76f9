"""kill -9 with RabbitMQ, Redis and a prefork pool: the broker itself gives the message to the next."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.app import App, create_app
from shared.config import Settings
from shared.render.worker import worker_arguments
from shared.signatures import mailer as contract
from shared.signatures.mailer import Kind
from shared.topology import dead_letter_queue, service
from tests.mail.conftest import OwnBroker, OwnRedis
from tests.mail.waiting import eventually
from tests.stand_ins.smtp import Act, Session, SmtpStandIn

pytestmark = pytest.mark.containers

ANN = "ann@example.org"
DEAD = dead_letter_queue("mailer")


class Cluster:
    """The mailer's worker on this machine, beside a real broker and a real Redis."""

    def __init__(self, broker: OwnBroker, redis: OwnRedis, smtp: SmtpStandIn, folder: Path) -> None:
        self._environ = {
            **os.environ,
            **broker.user("mailer", redis),
            "SMTP_URL": smtp.url,
            "SMTP_TIMEOUT": "1",
            "MAIL_LEASE": "1.5",
            "REPORTS_URL": str(folder / "reports"),
            # What it counts by itself while Redis is away lies there.
            "TMPDIR": str(folder),
        }
        self.log = folder / "worker.log"
        self.app: App = create_app(settings=Settings.load(broker.user("operator", redis)), current=False)
        self._workers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """One more worker."""
        health = self.log.with_name(f"consuming-{uuid.uuid4()}")
        with self.log.open("ab") as output:
            worker = subprocess.Popen(
                [sys.executable, "-m", "celery", *worker_arguments(service("mailer"))],
                env={**self._environ, "HEALTH_FILE": str(health)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._workers.append(worker)
        eventually(lambda: health.exists() or worker.poll() is not None)
        assert health.exists(), self.log.read_text()

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
            for queue in ("mailer", DEAD):
                while (message := connection.default_channel.basic_get(queue, no_ack=True)) is not None:
                    del message
        self.app.close()

    def dead_letters(self) -> int:
        """How many lie in the mailer's dead-letter queue."""
        with self.app.connection_for_write() as connection:
            return int(connection.default_channel.queue_declare(DEAD, passive=True).message_count)


@pytest.fixture
def cluster(broker: OwnBroker, redis: OwnRedis, smtp: SmtpStandIn, tmp_path: Path) -> Iterator[Cluster]:
    """With one worker."""
    cluster = Cluster(broker, redis, smtp, tmp_path)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def kill_child(cluster: Cluster) -> None:
    cluster.kill_pool()


def kill_all(cluster: Cluster) -> None:
    cluster.kill()
    cluster.start()


KILLS = pytest.mark.parametrize("kill", [kill_child, kill_all], ids=["a child of the pool", "the whole worker"])
Kill = Callable[[Cluster], None]


def then_kill(cluster: Cluster, kill: Kill, *, taken: bool) -> Act:
    def act(session: Session) -> None:
        if taken:
            session.take()
        kill(cluster)

    return act


@KILLS
@pytest.mark.parametrize("kind", ["notice", "report"])
def test_killed_before_the_end_it_is_sent_once(smtp: SmtpStandIn, cluster: Cluster, kind: Kind, kill: Kill) -> None:
    smtp.on("data", then_kill(cluster, kill, taken=False))
    answer = cluster.app.send_task(**task(kind))
    eventually(lambda: answer.successful())
    assert len(smtp.mails) == 1 and cluster.dead_letters() == 0


@KILLS
def test_killed_in_doubt_what_may_not_come_twice_becomes_a_dead_letter(
    smtp: SmtpStandIn, cluster: Cluster, kill: Kill
) -> None:
    smtp.on("end", then_kill(cluster, kill, taken=True))
    cluster.app.send_task(**task("notice"))
    eventually(lambda: cluster.dead_letters() == 1)
    assert len(smtp.mails) == 1


@KILLS
def test_killed_in_doubt_what_must_arrive_is_sent_again(smtp: SmtpStandIn, cluster: Cluster, kill: Kill) -> None:
    smtp.on("end", then_kill(cluster, kill, taken=True))
    answer = cluster.app.send_task(**task("report"))
    eventually(lambda: answer.successful())
    assert len(smtp.mails) == 2 and cluster.dead_letters() == 0


def test_what_the_server_refuses_for_good_becomes_a_dead_letter(smtp: SmtpStandIn, cluster: Cluster) -> None:
    smtp.on("rcpt", "550 5.1.1 no such user")
    answer = cluster.app.send_task(**task("notice"))
    eventually(lambda: cluster.dead_letters() == 1)
    # And whoever asks is told the server's words
    eventually(lambda: answer.failed())
    assert "550 5.1.1 no such user" in str(answer.result)
    assert len(smtp.sessions) == 1


def test_redis_goes_away_in_a_storm_and_comes_back(smtp: SmtpStandIn, cluster: Cluster, redis: OwnRedis) -> None:
    # Given a worker that has lost Redis
    redis.stop()
    try:
        # When one fault is reported many times
        for number in range(50):
            report = contract.report_error(f"fault {number}", "text", fingerprint="one")
            cluster.app.send_task(report.task, kwargs=report.kwargs, **report.options)
        # Then it is mailed once
        smtp.wait_for_mails(1)
        eventually(lambda: cluster.log.read_text().count("mailer.report_error") >= 100)
        assert len(smtp.mails) == 1
    finally:
        redis.start()
    # And when Redis is back, the digest has the others
    digest = contract.send_digest("1h")
    cluster.app.send_task(digest.task, kwargs=digest.kwargs, **digest.options)
    mails = smtp.wait_for_mails(2)
    assert mails[1].message["Subject"] == "49 error reports held back in the last hour"


def task(kind: Kind) -> dict[str, Any]:
    """What `send_task` takes for a mail."""
    signature = contract.send_email([ANN], "subject", "text", kind=kind)
    return {"name": signature.task, "kwargs": signature.kwargs, **signature.options}
