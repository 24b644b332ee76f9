"""RabbitMQ and Redis of one run: the images of the local cluster, with its definitions, on ports of their own."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kombu import Connection, Exchange, Queue
from redis import Redis

from bench.waiting import until
from shared import setup
from shared.render.permissions import ADMIN
from shared.topology import TASKS_EXCHANGE, queue_arguments
from tests.ports import free_ports

ROOT = Path(__file__).parents[2]
#: Queues that peers make for themselves.
_THEIRS = ("bench", "bench.DQ", "bench.XQ", "taskiq.dead_letter")


@dataclass(frozen=True)
class Servers:
    """Where they are.

    Attributes:
        rabbitmq: the administrator's URL; it holds the password, and goes no further than the peers' environment.
        environ: what this project's own processes find in theirs.
        containers: what Docker calls RabbitMQ's and Redis's.
    """

    rabbitmq: str
    redis: str
    environ: dict[str, str]
    containers: tuple[str, str]

    def of(self, name: str) -> dict[str, str]:
        """The same for who logs in as `name`."""
        return {key: value.replace("calculator", name) for key, value in self.environ.items()}

    def clear(self, kind: str) -> None:
        """Empty everything, and make ours a `classic` or a `quorum` queue."""
        Redis.from_url(self.redis).flushall()
        with Connection(self.rabbitmq) as connection:
            channel = connection.channel()
            for name in _THEIRS:
                channel.queue_delete(name)
            channel.queue_delete("calculator")
            arguments = queue_arguments("calculator") if kind == "quorum" else {}
            ours = Queue(
                "calculator", Exchange(TASKS_EXCHANGE, type="topic"), "calculator.#", queue_arguments=arguments
            )
            ours.exchange.no_declare = True
            ours(channel).declare()

    def waiting(self, queue: str) -> int:
        """How many messages a queue holds."""
        with Connection(self.rabbitmq) as connection:
            return int(connection.channel().queue_declare(queue, passive=True).message_count)


@contextmanager
def running() -> Iterator[Servers]:
    """Both, until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        secrets, (amqp, redis) = Path(folder), free_ports(2)
        Path(folder).chmod(0o755)
        setup.prepare(secrets)
        conf = ROOT / "compose" / "rabbitmq"
        mounts = {
            secrets / "rabbitmq": "/run/definitions",
            conf / "taskhouse.conf": "/etc/rabbitmq/conf.d/50-taskhouse.conf",
            conf / "enabled_plugins": "/etc/rabbitmq/enabled_plugins",
        }
        volumes = [one for source, target in mounts.items() for one in ("-v", f"{source}:{target}:ro")]
        names = f"taskhouse-bench-rabbitmq-{os.getpid()}", f"taskhouse-bench-redis-{os.getpid()}"
        rabbit = ["--user", "999:999", "-p", f"127.0.0.1:{amqp}:5672", *volumes, "rabbitmq:4-management"]
        try:
            docker("run", "-d", "--name", names[0], *rabbit)
            keep_nothing = ["redis:8", "redis-server", "--save", ""]
            docker("run", "-d", "--name", names[1], "-p", f"127.0.0.1:{redis}:6379", *keep_nothing)
            broker, store = address(names[0], 5672, amqp), address(names[1], 6379, redis)
            url = f"amqp://{ADMIN}:{(secrets / 'people' / 'rabbitmq').read_text()}@{broker}//"
            environ = {
                "BROKER_URL": f"amqp://calculator@{broker}//",
                "BROKER_PASSWORD_FILE": str(secrets / "calculator" / "broker_password"),
                "REDIS_URL": f"redis://{store}/0",
            }
            until(lambda: _answers(url), "RabbitMQ answers", 120)
            yield Servers(url, environ["REDIS_URL"], environ, names)
        finally:
            for name in names:
                subprocess.run(["docker", "rm", "-fv", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def address(name: str, port: int, published: int) -> str:
    """Where a container is reached: at its own address, where the machine has a way to it.

    A published port is a process of Docker's that copies every byte: with two cores it takes what is measured.
    """
    host = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", name).strip()
    try:
        socket.create_connection((host, port), 1).close()
    except ConnectionRefusedError:
        pass  # which is an answer: it starts
    except OSError:
        return f"127.0.0.1:{published}"
    return f"{host}:{port}"


def docker(*arguments: str) -> str:
    """What `docker` says; the process ends where it fails."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"docker {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def _answers(url: str) -> bool:
    try:
        with Connection(url, connect_timeout=2) as connection:
            connection.connect()
        return True
    except OSError:
        return False
