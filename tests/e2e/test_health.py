"""Health as the engine sees it: probes that cost little, and a broker that pauses."""

import time

import pytest

from shared.topology import SERVICES
from tests.e2e.houses import ComposeHouse, report
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


#: As the probe, but any host, and the whole answer.
FETCH = "exec 3<>/dev/tcp/{host}/{port}; printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"


def fetch(compose: ComposeHouse, host: str, path: str = "/metrics", port: int = STATUS_PORT) -> str:
    """What a host of the inner network answers to a worker."""
    script = FETCH.format(host=host, port=port, path=path)
    return compose.compose("exec", "-T", "calculator", "bash", "-c", script).stdout


def test_metrics_are_told_inside_the_networks(compose: ComposeHouse) -> None:
    # Given a report that was made, and the exporter
    report(compose, "--period", "week", "--refresh")
    assert compose.compose("--profile", "monitoring", "up", "-d", "--wait", "--no-deps", "exporter").returncode == 0
    try:
        # Then each says what it has done or sees
        for host, port, path, text in (
            ("reporter", STATUS_PORT, "/metrics", 'taskhouse_report_timestamp_seconds{period="week"}'),
            ("reporter", STATUS_PORT, "/metrics", 'tasks_total{outcome="succeeded",task="reporter.fetch_repos"}'),
            ("reporter", STATUS_PORT, "/metrics", "taskhouse_github_quota_left"),
            ("gateway", STATUS_PORT, "/metrics", 'http_requests_total{method="GET",route="/healthz",status="200"}'),
            ("beat", STATUS_PORT, "/metrics", "taskhouse_beat_tick_timestamp_seconds"),
            ("exporter", STATUS_PORT, "/metrics", 'taskhouse_queue_consumers{queue="reporter"} 1.0'),
            ("rabbitmq", 15692, "/metrics/detailed?family=queue_coarse_metrics", 'queue="unrouted"'),
        ):
            until(
                f"{host} tells {text}",
                lambda host=host, port=port, path=path, text=text: (  # type: ignore[misc]
                    text in fetch(compose, host, path, port)
                ),
            )
        # And the port is open to nobody else
        (container,) = compose.containers("exporter")
        assert not container["HostConfig"]["PortBindings"]
        assert container["HostConfig"]["ReadonlyRootfs"] is True
    finally:
        compose.compose("--profile", "monitoring", "rm", "-sf", "exporter")


@pytest.mark.parametrize("pause", [40, pytest.param(120, marks=pytest.mark.long)])
def test_a_broker_that_pauses_makes_a_worker_unready_and_starts_nothing_anew(
    compose: ComposeHouse, pause: float
) -> None:
    # Given a worker that is ready
    until("the worker is ready", lambda: status(compose, "calculator", "/readyz") == "200")
    (before,) = compose.containers("calculator")

    # When the broker pauses
    ends = time.monotonic() + pause
    # Docker is not always able to ("OCI runtime pause failed: unable to freeze"), which says nothing of the worker.
    until("the broker pauses", lambda: compose.compose("pause", "rabbitmq").returncode == 0, 10)
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
