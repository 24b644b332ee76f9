"""One RabbitMQ and one Redis with the shipped users and rights, and workers as processes of this machine."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
import yaml
from testcontainers.core.container import DockerContainer

from shared.render import compose
from shared.setup import House, prepare
from shared.spec import Pool, ServiceSpec
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0


def until(what: str, happened: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for a condition that another process brings about."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


class Redis:
    """A Redis server with the shipped file of users, as a process of its own."""

    def __init__(self, folder: Path, secrets: Path) -> None:
        self.port = free_port()
        file = folder / "redis.conf"
        file.write_text((secrets / "redis" / "redis.conf").read_text().replace("dir /data", f"dir {folder}"))
        command = ["redis-server", str(file), "--port", str(self.port), "--bind", "127.0.0.1"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            return bool(redis.Redis(port=self.port, username="health", password="any").ping())
        except redis.RedisError:
            return False

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class Servers:
    """Both servers, and the passwords of their users."""

    secrets: Path
    redis: Redis
    rabbitmq: DockerContainer

    def environ(self, user: str, broker: str, database: int) -> dict[str, str]:
        """The variables of a process of `user`. Redis as a broker has a database of its own."""
        own = self.secrets / user
        host, port = self.rabbitmq.get_container_host_ip(), self.rabbitmq.get_exposed_port(5672)
        urls = {
            "rabbitmq": f"amqp://{user}@{host}:{port}//",
            "redis": f"redis://{user}@127.0.0.1:{self.redis.port}/{database}",
        }
        return {
            "BROKER_URL": urls[broker],
            "BROKER_PASSWORD_FILE": str(own / ("redis_password" if broker == "redis" else "broker_password")),
            "REDIS_URL": f"redis://{user}@127.0.0.1:{self.redis.port}/0",
            "REDIS_PASSWORD_FILE": str(own / "redis_password"),
        }


@contextmanager
def running(folder: Path, secrets: Path) -> Iterator[Servers]:
    """Both servers, until the block ends."""
    # As with compose/redis-broker.yaml, Redis' users may use queues.
    prepare(secrets, House(redis_broker=True))
    server = Redis(folder, secrets)
    rabbitmq = DockerContainer("rabbitmq:4-management", user="999:999").with_exposed_ports(5672)
    rabbitmq.with_volume_mapping(str(secrets / "rabbitmq"), "/run/definitions")
    rabbitmq.with_volume_mapping(
        str(ROOT / "compose/rabbitmq/taskhouse.conf"), "/etc/rabbitmq/conf.d/50-taskhouse.conf"
    )
    try:
        with rabbitmq:
            check = "rabbitmq-diagnostics -q check_port_connectivity"
            until("RabbitMQ is ready", lambda: rabbitmq.exec(check).exit_code == 0, 120)
            until("Redis is ready", server.answers)
            yield Servers(secrets, server, rabbitmq)
    finally:
        server.stop()


class Worker:
    """A service's worker, started by the shipped command with another pool in it."""

    def __init__(self, spec: ServiceSpec, pool: Pool, environ: Mapping[str, str], folder: Path) -> None:
        self.log = folder / f"{spec.name}.log"
        self._health = folder / f"{spec.name}.health"
        variable = {f"{spec.name.upper()}_POOL": pool}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", *(_substitute(one, variable) for one in _command(spec))],
                cwd=ROOT,
                env={**environ, "HEALTH_FILE": str(self._health)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Until it consumes."""
        try:
            until("the worker consumes", lambda: self._health.exists() or self.process.poll() is not None)
            assert self.process.poll() is None
        except AssertionError:
            raise AssertionError(self.log.read_text()[-4000:]) from None

    def stop(self) -> None:
        """As compose stops it."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            # A process of a pool waits up to 30 s until its parent has counted its last result (billiard). With spans
            # on that count does not come now and then.
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            self.process.wait()


def _command(spec: ServiceSpec) -> list[str]:
    return list(yaml.safe_load(compose.render([spec]))["services"][spec.name]["command"])


def _substitute(text: str, variables: Mapping[str, str]) -> str:
    """What compose makes of `${NAME:-default}`."""
    return re.sub(r"\$\{(\w+):-(.*?)\}", lambda match: variables.get(match[1]) or match[2], text)
