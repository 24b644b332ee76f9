"""The shipped images hold what a team's other choices need."""

import json
import os

import pytest
import requests

from tests.e2e.houses import ComposeHouse
from tests.e2e.test_cluster import until

pytestmark = pytest.mark.containers

#: Asks under the choices of its own environment, and prints what came back.
SCRIPT = """
from shared.app import create_app
from shared.signatures import calculator
from celery import chord
app = create_app()
print(chord([calculator.multiply(n, n) for n in range(5)], calculator.total.s()).delay().get(timeout=60))
"""


def test_a_service_runs_under_other_choices_beside_those_that_have_none(
    cluster: ComposeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    up = ("up", "-d", "--wait", "--no-deps", "calculator")
    try:
        # Given the calculator's own image, in greenlets, with other bodies
        with monkeypatch.context() as patch:
            for name, value in (("SERIALIZER", "msgpack"), ("ACCEPT", "yaml"), ("COMPRESSION", "zstd")):
                patch.setenv(f"TASK_{name}", value)
            patch.setenv("CALCULATOR_POOL", "gevent")
            done = cluster.compose(*up)
            assert done.returncode == 0, done.stderr
            # Then it does what JSON, MessagePack and YAML ask for
            for serializer in ("json", "msgpack", "yaml"):
                patch.setenv("TASK_SERIALIZER", serializer)
                asked = cluster.publisher(SCRIPT)
                assert (asked.returncode, asked.stdout.strip()) == (0, "30"), asked.stderr
            stats = json.loads(cluster.celery("inspect", "stats", "--json").stdout)
            (mine,) = [one for name, one in stats.items() if name.startswith("calculator@")]
            assert "gevent" in mine["pool"]["implementation"]
            assert "This pool promises less than prefork" in cluster.compose("logs", "calculator").stdout
    finally:
        assert cluster.compose(*up).returncode == 0


def test_redis_can_be_the_broker_of_the_cluster(cluster: ComposeHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = ("calculator", "beat", "gateway")
    # With Redis, whose users may do more then.
    up = ("up", "-d", "--wait", *clients)
    try:
        # Given a worker, beat and the gateway over Redis, as the shipped file says
        with monkeypatch.context() as patch:
            patch.setenv("COMPOSE_FILE", f"{os.environ['COMPOSE_FILE']}:compose/redis-broker.yaml")
            done = cluster.compose(*up)
            assert done.returncode == 0, done.stderr
            for client in clients:
                assert "redis://" in " ".join(cluster.containers(client)[0]["Config"]["Env"])
            # Then a publisher is answered, the gateway takes work, and beat's ticks are done
            asked = cluster.publisher(SCRIPT)
            assert (asked.returncode, asked.stdout.strip()) == (0, "30"), asked.stderr
            assert "promises less than RabbitMQ" in asked.stderr

            url = f"http://127.0.0.1:{cluster.ports['GATEWAY_PORT']}/readyz"
            assert requests.get(url, timeout=10).json()["broker"] == "ok"

            def ticks() -> int:
                return cluster.celery("logs", "calculator.add_days").stdout.count("succeeded")

            before = ticks()
            until("a tick is done", lambda: ticks() > before, 90)
    finally:
        assert cluster.compose(*up).returncode == 0
