"""A mail server that does as it is told, a Redis of our own, and a mailer's worker that may be killed."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from services.mailer.ledger import Ledger
from services.mailer.ledger_redis import RedisLedger
from services.mailer.ledger_sqlite import SqliteLedger
from services.mailer.storm import Storm
from services.mailer.storm_redis import RedisStorm
from services.mailer.storm_sqlite import SqliteStorm
from shared import setup
from shared.config import Settings
from tests.mail.cluster import Cluster
from tests.mail.servers import OwnBroker, OwnRedis
from tests.mail.waiting import eventually
from tests.mail.worker import MailerWorker, publisher
from tests.stand_ins.smtp import SmtpStandIn

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer has set does not reach a test."""
    for name in list(os.environ):
        if name.removesuffix("_FILE").lower() in Settings.model_fields or name.startswith("CELERY_"):
            monkeypatch.delenv(name)


@pytest.fixture
def smtp() -> Iterator[SmtpStandIn]:
    """A mail server on loopback."""
    with SmtpStandIn() as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of 127.0.0.1 in one file, signed by itself."""
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-subj", "/CN=stand-in", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, *subject, "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    """Started once; a laptop without Redis skips what needs it."""
    if shutil.which("redis-server") is None:
        message = "redis-server is not installed: apt-get install redis-server"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    server = OwnRedis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis(redis_server: OwnRedis) -> OwnRedis:
    """An empty Redis."""
    redis_server.client.flushall()
    return redis_server


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBroker]:
    """Started once; a laptop without Docker skips what needs it."""
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        message = "container tests need Docker"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    secrets = tmp_path_factory.mktemp("secrets")
    setup.prepare(secrets)
    # Its helper that removes what is left is an image more; the block below removes the container.
    testcontainers_config.ryuk_disabled = True
    container = DockerContainer("rabbitmq:4-management", user="999:999").with_exposed_ports(5672, 15672, 15692)
    container.with_volume_mapping(str(secrets / "rabbitmq"), "/run/definitions")
    container.with_volume_mapping(
        str(ROOT / "compose/rabbitmq/taskhouse.conf"), "/etc/rabbitmq/conf.d/50-taskhouse.conf"
    )
    container.with_volume_mapping(str(ROOT / "compose/rabbitmq/enabled_plugins"), "/etc/rabbitmq/enabled_plugins")
    with container:
        check = "rabbitmq-diagnostics -q check_port_connectivity"
        eventually(lambda: container.exec(check).exit_code == 0, patience=120)
        yield OwnBroker(container, secrets)


@pytest.fixture(params=["sqlite", "redis"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    """Each test of the ledger runs over both."""
    if request.param == "sqlite":
        return SqliteLedger(tmp_path / "ledger.sqlite")
    return RedisLedger(request.getfixturevalue("redis").client)


@pytest.fixture(params=["sqlite", "redis"])
def storm(request: pytest.FixtureRequest, tmp_path: Path) -> Storm:
    """Each test of the counters runs over both."""
    if request.param == "sqlite":
        return SqliteStorm(tmp_path / "storm.sqlite")
    return RedisStorm(request.getfixturevalue("redis").client)


@pytest.fixture
def start_worker(tmp_path: Path, smtp: SmtpStandIn) -> Iterator[Callable[..., MailerWorker]]:
    """Starts mailer's workers in embedded mode, all in one house, with settings that make them quick to give up."""
    started: list[MailerWorker] = []
    house = tmp_path / "house"
    app = publisher(house)

    def start(**settings: str) -> MailerWorker:
        environ = {
            "LOCAL_DIR": str(house),
            "SMTP_URL": smtp.url,
            "SMTP_TIMEOUT": "1",
            "MAIL_LEASE": "1.5",
            "ADMINS": "admin@example.org",
            **settings,
        }
        worker = MailerWorker(app, environ)
        started.append(worker)
        worker.wait_until_it_consumes()
        return worker

    yield start
    for worker in started:
        worker.kill()
    app.close()


@pytest.fixture
def cluster(broker: OwnBroker, redis: OwnRedis, smtp: SmtpStandIn, tmp_path: Path) -> Iterator[Cluster]:
    """With one worker."""
    cluster = Cluster(broker, redis, smtp, tmp_path)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()
