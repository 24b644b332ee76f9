"""The servers, once a session; a house for each choice."""

import shutil
import subprocess
from collections.abc import Iterator

import pytest
from testcontainers.core.config import testcontainers_config

from tests.choices import servers
from tests.missing import missing


def _missing() -> str | None:
    if shutil.which("redis-server") is None:
        return "redis-server is not installed: apt-get install redis-server"
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        return "container tests need Docker"
    return None


@pytest.fixture(scope="session")
def both_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Servers]:
    """RabbitMQ and Redis."""
    if message := _missing():
        missing(message)
    # Its helper that removes what is left is an image more; the block below removes the container.
    testcontainers_config.ryuk_disabled = True
    with servers.running(tmp_path_factory.mktemp("redis"), tmp_path_factory.mktemp("secrets")) as both:
        yield both
