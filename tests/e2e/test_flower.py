"""Flower as it is shipped: who is let in, what it shows, and what is left of it in a new container."""

import json

import pytest
import requests

from shared.topology import SERVICES, dead_letter_queue
from tests.e2e.houses import ComposeHouse, report
from tests.e2e.test_cluster import until
from tests.flower_routes import flower_routes

pytestmark = pytest.mark.containers

TIMEOUT = 10


class Flower:
    """Whoever asks it."""

    def __init__(self, compose: ComposeHouse) -> None:
        self.url = f"http://127.0.0.1:{compose.ports['FLOWER_PORT']}"
        self._user = ("admin", compose.passwords()["flower"])

    def get(self, path: str, *, user: tuple[str, str] | None = None) -> requests.Response:
        """A page, for one who knows the password unless `user` is somebody else."""
        return requests.get(f"{self.url}{path}", auth=user or self._user, timeout=TIMEOUT)

    def done(self) -> dict[str, str]:
        """The names of tasks that it has seen succeed, by their ids."""
        found = self.get("/api/tasks?state=SUCCESS").json()
        return {one: task["name"] for one, task in found.items()}


@pytest.fixture(scope="module")
def flower(cluster: ComposeHouse) -> Flower:
    """Of the cluster."""
    return Flower(cluster)


def test_flower_shows_the_worker_and_the_task(compose: ComposeHouse, flower: Flower) -> None:
    # Given a report that was made
    report(compose, "--period", "week", "--refresh")

    # When somebody who knows the password looks
    # Then Flower shows the reporter's worker and the tasks that it ran
    until("Flower knows the worker", lambda: flower.get("/api/workers?refresh=1").json())
    workers = flower.get("/api/workers").json()
    assert [name for name in workers if name.startswith("reporter@")]
    assert {"reporter.fetch_repos", "reporter.build_report"} <= set(flower.done().values())
    # And what it shows of the worker's settings holds no password
    passwords = [
        compose.compose("exec", "-T", "reporter", "cat", f"/run/secrets/{name}").stdout
        for name in ("broker_password", "redis_password")
    ]
    assert all(passwords)
    assert not [password for password in passwords if password in json.dumps(workers)]


def test_flower_refuses_strangers_on_every_route_but_health(flower: Flower) -> None:
    routes = flower_routes()
    assert {"/", "/metrics", "/broker", "/healthcheck"} <= set(routes)
    # When a stranger asks for each, without credentials and with wrong ones
    for path in routes:
        answers = [requests.get(f"{flower.url}{path}", timeout=TIMEOUT), flower.get(path, user=("admin", "wrong"))]
        # Then nothing is shown but that it runs
        assert {answer.status_code for answer in answers} == ({200} if path == "/healthcheck" else {401}), path
    # And for one who knows the password it is
    assert flower.get("/broker").status_code == flower.get("/metrics").status_code == 200


def test_flower_shows_how_long_each_queue_is(compose: ComposeHouse, flower: Flower) -> None:
    # Given a message that no service takes
    before = compose.messages("unrouted")
    assert compose.celery("call", "nobody.does_this", "--undeclared").returncode == 0

    # Then Flower's page and its API show it beside the services' queues
    def lengths() -> dict[str, int]:
        found = flower.get("/api/queues/length").json()["active_queues"]
        return {queue["name"]: queue.get("messages", 0) for queue in found}

    until("Flower counts the message", lambda: lengths().get("unrouted") == before + 1)
    names = [name for spec in SERVICES for name in (spec.name, dead_letter_queue(spec.name))]
    assert set(names) <= lengths().keys()
    page = flower.get("/broker").text
    assert all(name in page for name in (*names, "unrouted"))


def test_flower_links_to_the_gateway_and_to_grafana(compose: ComposeHouse, flower: Flower) -> None:
    page = flower.get("/workers").text
    for port in ("GATEWAY_PORT", "GRAFANA_PORT"):
        assert f'href="http://localhost:{compose.ports[port]}/"' in page


def test_what_flower_has_seen_is_there_in_a_new_container(compose: ComposeHouse, flower: Flower) -> None:
    # Given a task that Flower has seen
    script = (
        "from shared.app import app; from shared.signatures import calculator; print(calculator.add(2, 3).delay().id)"
    )
    published = compose.publisher(script)
    assert published.returncode == 0, published.stderr
    task = published.stdout.strip()
    until("Flower has seen the task", lambda: task in flower.done())

    # When its container is removed, and another one takes its place
    assert compose.compose("rm", "-sf", "flower").returncode == 0
    assert compose.compose("up", "-d", "--wait", "--no-deps", "flower").returncode == 0

    # Then it has not forgotten
    assert flower.done()[task] == "calculator.add"
