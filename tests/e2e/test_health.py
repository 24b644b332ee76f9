"""Health as the engine sees it: probes that cost little, and a broker that pauses."""

import time

import pytest

from shared.topology import SERVICES
from tests.e2e.houses import ComposeHouse
from tests.e2e.test_cluster import until

pytestmark = pytest.mark.containers

STATUS_PORT = 9100
#: A probe without any program but the shell, as compose.yaml has it.
PROBE = """
for _ in $(seq {times}); do
  exec 3<>/dev/tcp/127.0.0.1/{port}
  printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3
  read -r _ status _ <&3
done
echo $status
"""


def status(compose: ComposeHouse, service: str, path: str, times: int = 1) -> str:
    """The HTTP status of a service's answer, from inside its container."""
    script = PROBE.format(port=STATUS_PORT, path=path, times=times)
    return compose.compose("exec", "-T", service, "bash", "-c", script).stdout.strip()


def test_workers_and_beat_answer_within_their_networks_alone(compose: ComposeHouse) -> None:
    for service in (*(spec.name for spec in SERVICES), "beat"):
        # Given what the engine says of it: it is healthy, by its status port
        (container,) = compose.containers(service)
        assert container["State"]["Health"]["Status"] == "healthy", service
        # Then the port is published nowhere
        assert f"{STATUS_PORT}/tcp" not in (container["HostConfig"]["PortBindings"] or {}), service
        # And it answers
        assert status(compose, service, "/healthz") == status(compose, service, "/readyz") == "200", service


@pytest.mark.parametrize("pause", [40, pytest.param(120, marks=pytest.mark.long)])
def test_a_broker_that_pauses_makes_a_worker_unready_and_starts_nothing_anew(
    compose: ComposeHouse, pause: float
) -> None:
    # Given a worker that is ready
    until("the worker is ready", lambda: status(compose, "calculator", "/readyz") == "200")
    (before,) = compose.containers("calculator")

    # When the broker pauses
    ends = time.monotonic() + pause
    assert compose.compose("pause", "rabbitmq").returncode == 0
    try:
        # Then the worker is unready before it is over, and alive all the while
        until("the worker is unready", lambda: status(compose, "calculator", "/readyz") == "503", pause)
        while time.monotonic() < ends:
            assert status(compose, "calculator", "/healthz") == "200"
            time.sleep(1)
    finally:
        compose.compose("unpause", "rabbitmq")

    # When it goes on, then every service is ready again, and nobody started the worker anew
    for service in (spec.name for spec in SERVICES):
        until(f"{service} is ready", lambda service=service: status(compose, service, "/readyz") == "200")  # type: ignore[misc]
    (after,) = compose.containers("calculator")
    assert (after["RestartCount"], after["State"]["StartedAt"]) == (0, before["State"]["StartedAt"])
    assert "pong" in compose.celery("inspect", "ping").stdout
