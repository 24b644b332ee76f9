"""An application elsewhere depends on the contract alone: the wheel of `shared`, and nothing that workers need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kombu import Connection

from tests.servers import OwnBroker, OwnRedis

pytestmark = pytest.mark.containers

ROOT = Path(__file__).resolve().parents[2]
#: What workers have, and a publisher does not need.
NOT_NEEDED = ("gevent", "prometheus_client", "requests", "flower", "fsspec", "yaml", "rich")
PUBLISH = """
import importlib.util, sys
print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name)))
from shared.app import app
from shared.errors import InvalidArguments
from shared.signatures import calculator
try:
    calculator.add("a", 1)
except InvalidArguments as error:
    print(error)
print(calculator.add.s(1, 2).set(app=app).apply_async().id)
"""


def test_the_wheel_publishes_from_an_empty_environment(broker: OwnBroker, redis: OwnRedis, tmp_path: Path) -> None:
    # Given the wheel, in an environment that has nothing else but what it asks for
    def run(*command: str | Path, **environ: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | environ, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, ROOT)
    run(sys.executable, "-m", "venv", tmp_path / "empty")
    python = tmp_path / "empty/bin/python"
    (wheel,) = tmp_path.glob("*.whl")
    # The versions that are tested, where an application has no wish of its own.
    pinned = tmp_path / "pinned.txt"
    pinned.write_text(
        "\n".join(line.split()[0] for line in (ROOT / "requirements/base.txt").read_text().splitlines() if "==" in line)
    )
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", pinned, wheel)

    # When it hands in a task
    environ = broker.user("operator", redis)
    with Connection(broker.administrator()) as connection:
        connection.default_channel.queue_purge("calculator")
    extra, refused, task_id = run(python, "-c", PUBLISH, *NOT_NEEDED, PYTHONPATH="", **environ).splitlines()

    # Then it has nothing that it does not need, checks what it sends, and the message is in the queue
    assert extra == ""
    assert refused.startswith("calculator.add: a")
    with Connection(broker.administrator()) as connection:
        message = connection.default_channel.basic_get("calculator", no_ack=True)
    assert message is not None and message.headers["id"] == task_id
