"""A beat as a process, beside a Redis that goes away."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import OwnRedis
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
#: Seconds between the signal to stop and the kill that compose gives a container of beat.
GRACE = 10


@pytest.fixture
def beat(redis: OwnRedis, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """One that holds the lock."""
    environ = {"BROKER_URL": "amqp://beat@127.0.0.1:9//", "REDIS_URL": redis.url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "celery", "-A", "shared.app", "beat", "--pidfile="]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **environ}, cwd=tmp_path, stdout=log, stderr=log)
    try:
        eventually(lambda: bool(redis.client.exists("redbeat::lock")))
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_beat_that_stops_gives_its_lock_back(beat: "subprocess.Popen[bytes]", redis: OwnRedis) -> None:
    beat.terminate()
    beat.wait(GRACE)
    assert not redis.client.exists("redbeat::lock")


def test_a_beat_stops_in_time_while_redis_says_nothing(beat: "subprocess.Popen[bytes]", redis: OwnRedis) -> None:
    # Given a Redis that has the connections, and answers nobody
    server = int(redis.client.info()["process_id"])
    os.kill(server, signal.SIGSTOP)
    try:
        # When the beat is told to stop, then nobody has to kill it
        beat.terminate()
        beat.wait(GRACE)
    finally:
        os.kill(server, signal.SIGCONT)
