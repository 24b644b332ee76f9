"""A publisher learns within its timeout whether the broker has a message, and is never told yes falsely."""

import subprocess

import pytest

from tests.e2e.houses import ROOT, ComposeHouse

pytestmark = pytest.mark.containers

#: Publishes while nobody confirms, waits until somebody does, and then publishes what the broker refuses.
SCRIPT = """
import time
from kombu.exceptions import OperationalError
from shared.app import app

started = time.monotonic()
try:
    app.send_task("reporter.no_such_task")
    print("confirmed", flush=True)
except OperationalError:
    print("not confirmed", "in time" if time.monotonic() - started < 20 else "late", flush=True)
while True:
    try:
        with app.connection_for_write() as connection:
            connection.channel().basic_qos(0, 1, False)
            connection.default_channel.basic_publish(
                connection.default_channel.prepare_message(b"{}"),
                exchange="tasks", routing_key="reporter.no_such_task", confirm_timeout=1,
            )
        break
    except (OSError, OperationalError):
        pass
try:
    app.send_task("reporter.no_such_task", args=["x" * 17 * 2**20], retry=False)
    print("told yes falsely", flush=True)
except Exception:
    print("refused", flush=True)
"""


def test_a_confirmation_that_comes_late_is_not_taken_for_the_next_ones(compose: ComposeHouse) -> None:
    # Given an alarm, while which the broker confirms nothing
    alarm = ("exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "set_vm_memory_high_watermark")
    assert compose.compose(*alarm, "0").returncode == 0
    command = (
        "docker",
        "compose",
        "run",
        "--rm",
        "-T",
        "--no-deps",
        "-e",
        "PUBLISH_TIMEOUT=1",
        "--entrypoint",
        "python",
    )
    publisher = subprocess.Popen(
        [*command, "cli", "-c", SCRIPT], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert publisher.stdout is not None
    try:
        # When a program publishes, it is told in time that nobody has confirmed
        assert publisher.stdout.readline() == "not confirmed in time\n"
    finally:
        assert compose.compose(*alarm, "0.4").returncode == 0

    # And when it then publishes what the broker refuses, it is told so, and not by the confirmation of the first
    told, complaint = publisher.communicate(timeout=60)
    assert told == "refused\n", complaint
