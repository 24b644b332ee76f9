"""Redis and RabbitMQ of the test session, which can go away and come back."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ConnectionError
from redis.retry import Retry
from testcontainers.core.container import DockerContainer

from shared.render.permissions import ADMIN, MONITOR
from tests.ports import free_port
from tests.waiting import eventually


def redis_client(port: int, timeout: float = 5.0) -> Redis:
    """A client that says at once when nobody answers."""
    return Redis(port=port, socket_connect_timeout=1, socket_timeout=timeout, retry=Retry(NoBackoff(), 0))


class OwnRedis:
    """A Redis server of this test session, which can go away and come back."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.client = redis_client(self.port)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For `REDIS_URL`."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Come back, empty."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        self._process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        eventually(self._answers)

    def stop(self) -> None:
        """Go away."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except (ConnectionError, BusyLoadingError):
            return False


class OwnBroker:
    """RabbitMQ with the shipped definitions, for this test session."""

    def __init__(self, container: DockerContainer, secrets: Path) -> None:
        self._container = container
        self._secrets = secrets

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of AMQP."""
        return self._container.get_container_host_ip(), int(self._container.get_exposed_port(5672))

    def user(self, name: str, redis: OwnRedis) -> dict[str, str]:
        """The settings of somebody who logs in as `name`."""
        host, port = self.address
        return {
            "BROKER_URL": f"amqp://{name}@{host}:{port}//",
            "BROKER_PASSWORD_FILE": str(self._secrets / name / "broker_password"),
            "REDIS_URL": redis.url,
        }

    def user_over_tls(self, name: str, redis: OwnRedis) -> dict[str, str]:
        """The same, over TLS, by an address that the certificate names."""
        ca = self._secrets / name / "ca.pem"
        url = f"amqps://{name}@127.0.0.1:{self._container.get_exposed_port(5671)}//"
        return {**self.user(name, redis), "BROKER_URL": url, "TLS_CA_FILE": str(ca)}

    def administrator(self) -> str:
        """The URL of the user who may do everything."""
        host, port = self.address
        return f"amqp://{ADMIN}:{(self._secrets / 'people' / 'rabbitmq').read_text()}@{host}:{port}//"

    @contextmanager
    def alarm(self) -> Iterator[None]:
        """It has no memory left, and takes nothing from publishers."""
        self.run("rabbitmqctl", "-q", "set_vm_memory_high_watermark", "0")
        try:
            yield
        finally:
            self.run("rabbitmqctl", "-q", "set_vm_memory_high_watermark", "0.4")

    def monitor(self) -> str:
        """The management API, with the user that Flower asks it by."""
        password = (self._secrets / "flower" / "monitor_password").read_text()
        return f"http://{MONITOR}:{password}@{self.at(15672)}/api/"

    def at(self, port: int) -> str:
        """Host and port, where it listens for this machine."""
        return f"{self._container.get_container_host_ip()}:{self._container.get_exposed_port(port)}"

    def password_file(self, name: str) -> str:
        """Of a user."""
        return str(self._secrets / name / "broker_password")

    def run(self, *command: str) -> str:
        """Run a command in its container; gives what it says."""
        done = self._container.exec(list(command))
        assert done.exit_code == 0, done.output
        return done.output.decode()

    def kill(self) -> None:
        """It is gone, with what it had not written to disk."""
        self._container.get_wrapped_container().kill()

    def start(self) -> None:
        """Come back after that, with what was on disk."""
        self._container.get_wrapped_container().start()
        self.wait()

    def wait(self) -> None:
        """Until it takes clients."""
        check = "rabbitmq-diagnostics -q check_port_connectivity"
        eventually(lambda: self._container.exec(check).exit_code == 0, patience=120)

    def freeze(self) -> None:
        """It keeps its connections, and says nothing any more."""
        self._container.get_wrapped_container().pause()

    def thaw(self) -> None:
        """It goes on where it was."""
        self._container.get_wrapped_container().unpause()
