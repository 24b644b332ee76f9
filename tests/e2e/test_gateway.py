"""The gateway in the cluster: with its servers, and with each of them taken away."""

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.e2e.houses import ComposeHouse
from tests.serving import Site, finished, problem, submit, until

pytestmark = pytest.mark.containers

#: Seconds in which everything must be answered, and for a server to come back.
BOUND, RETURN = 2.0, 120.0
PAGES = 5


@pytest.fixture
def site(compose: ComposeHouse) -> Iterator[Site]:
    """The cluster's gateway, once it takes work."""
    with Site(f"http://127.0.0.1:{compose.ports['GATEWAY_PORT']}") as site:
        until(lambda: all(state == "ok" for state in site.get("/readyz").json().values()), RETURN)
        yield site


def timed(site: Site, method: str, path: str, **arguments: Any) -> httpx.Response:
    """An answer that must come in time."""
    begin = time.monotonic()
    answer = site.request(method, path, **arguments)
    assert time.monotonic() - begin < BOUND, answer.text
    return answer


def refused(site: Site, times: int = 3) -> None:
    """Ask for reports that cannot be taken just now."""
    for _ in range(times):
        answer = timed(site, "POST", "/reports", json={"refresh": True})
        problem(answer, 503, "broker-away")
        assert int(answer.headers["retry-after"]) > 0


def nothing_was_half_done(compose: ComposeHouse, site: Site) -> None:
    """What was refused does not run later: the next report is the only one that asks GitHub."""
    until(lambda: site.get("/readyz").status_code == 200, RETURN)
    assert finished(site, submit(site, refresh=True))["state"] == "SUCCESS"
    # Messages come in their order, so one that had been kept would have run by now
    assert len(compose.github.requests()) == PAGES


@contextmanager
def paused(compose: ComposeHouse, service: str) -> Iterator[None]:
    """A server that takes connections, and answers nothing."""
    assert compose.compose("pause", service).returncode == 0
    try:
        yield
    finally:
        compose.compose("unpause", service)


@contextmanager
def stopped(compose: ComposeHouse, service: str) -> Iterator[None]:
    """A server that is not there. Compose starts it only with all that it stands on, so the engine is asked."""
    (container,) = (each["Id"] for each in compose.containers(service))
    subprocess.run(["docker", "stop", container], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["docker", "start", container], check=True, capture_output=True)


@contextmanager
def alarmed(compose: ComposeHouse) -> Iterator[None]:
    """A broker that is short of memory: it takes connections, and no messages."""

    def watermark(share: str) -> "subprocess.CompletedProcess[str]":
        command = ("rabbitmqctl", "-q", "set_vm_memory_high_watermark", share)
        return compose.compose("exec", "-T", "rabbitmq", *command)

    assert watermark("0.00001").returncode == 0
    try:
        until(
            lambda: "Memory alarm" in compose.compose("exec", "-T", "rabbitmq", "rabbitmq-diagnostics", "alarms").stdout
        )
        yield
    finally:
        watermark("0.4")


# --- All of it there --------------------------------------------------------------------------------------------------


def test_a_report_is_asked_for_followed_and_fetched(site: Site) -> None:
    # When a report is asked for, and followed
    task_id = submit(site, period="week", refresh=True)
    with site.stream("GET", f"/tasks/{task_id}/events") as answer:
        lines = list(answer.iter_lines())
    states = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    # Then its way can be seen, and its end
    assert states[-1]["state"] == "SUCCESS" and all(not state["final"] for state in states[:-1])
    # And its file is there, the first in the list
    report = states[-1]["report"]
    assert len(site.get(report["url"]).content) == report["bytes"]
    assert site.get("/reports?limit=1").json()["reports"][0]["name"] == report["name"]


def test_a_hundred_readers_cost_redis_as_much_as_one(compose: ComposeHouse, site: Site) -> None:
    # Given a task that takes a while
    compose.github.fault("slow", page=5, seconds=4)
    task_id = submit(site, period="month", refresh=True)

    def read(_: int) -> str:
        with httpx.Client(timeout=60) as client:
            return client.get(f"{site.url}/tasks/{task_id}/events").text

    # When a hundred readers follow it to its end
    before = gets(compose)
    with ThreadPoolExecutor(100) as readers:
        told = list(readers.map(read, range(100)))
    # Then all of them have seen it
    assert all('"state":"SUCCESS"' in each for each in told)
    # And Redis was asked by one: four times a second, and now and then by the workers
    assert gets(compose) - before < 60


def gets(compose: ComposeHouse) -> int:
    """How many GETs Redis has answered so far."""
    script = "from shared.app import app; print(app.backend.client.info('commandstats')['cmdstat_get']['calls'])"
    return int(compose.publisher(script).stdout)


def test_a_note_in_redis_never_takes_the_place_of_what_a_worker_says(compose: ComposeHouse) -> None:
    # Given the steps that SQLite's side takes in its own tests, on the cluster's Redis
    script = """
from shared.app import app
from shared.results import progress, submitted
store, seen = app.backend, []
state = lambda task: (submitted.read(store, task) or {}).get("status")
store.store_submitted("e2e-1"); seen.append(state("e2e-1"))
seen.append(0 < store.client.ttl(store.get_key_for_task("e2e-1")) <= 86400)
store.withdraw_submitted("e2e-1"); seen.append(state("e2e-1"))
store.store_submitted("e2e-2"); progress.tell(store, "e2e-2", "fetch", 1, 2)
store.store_submitted("e2e-2"); store.withdraw_submitted("e2e-2"); seen.append(state("e2e-2"))
store.store_result("e2e-2", 1, "SUCCESS")
store.store_submitted("e2e-2"); store.withdraw_submitted("e2e-2"); seen.append(state("e2e-2"))
store.forget("e2e-2")
print(seen)
"""
    done = compose.publisher(script)
    assert done.stdout.strip() == "['SUBMITTED', True, None, 'PROGRESS', 'SUCCESS']", done.stderr


# --- Without the broker -----------------------------------------------------------------------------------------------


def test_with_the_broker_stopped_nothing_is_taken_and_nothing_half_done(compose: ComposeHouse, site: Site) -> None:
    # Given a gateway that had a connection
    assert finished(site, submit(site))["state"] == "SUCCESS"
    with stopped(compose, "rabbitmq"):
        # When reports are asked for, then they are refused in time
        refused(site)
        # And the gateway says that it takes no work, but is well
        assert timed(site, "GET", "/readyz").json()["broker"] == "away"
        assert timed(site, "GET", "/healthz").status_code == 200
        # And what is known can still be read
        assert timed(site, "GET", "/reports").status_code == 200
        problem(timed(site, "GET", "/tasks/nobody"), 404, "unknown-task")
    compose.github.reset()
    nothing_was_half_done(compose, site)


def test_with_the_broker_paused_nothing_is_taken_and_nothing_half_done(compose: ComposeHouse, site: Site) -> None:
    # Given a gateway that has a connection, whose other end is frozen
    assert finished(site, submit(site))["state"] == "SUCCESS"
    compose.github.reset()
    with paused(compose, "rabbitmq"):
        refused(site)
    # When it thaws, and reads what was sent to it meanwhile
    nothing_was_half_done(compose, site)


def test_with_a_broker_short_of_memory_nothing_is_taken_and_nothing_half_done(
    compose: ComposeHouse, site: Site
) -> None:
    assert finished(site, submit(site))["state"] == "SUCCESS"
    compose.github.reset()
    with alarmed(compose):
        refused(site)
    # When it has memory again, and reads what was sent to it meanwhile
    nothing_was_half_done(compose, site)


# --- Without the result store -----------------------------------------------------------------------------------------


def test_with_redis_stopped_work_is_taken_and_states_are_refused(compose: ComposeHouse, site: Site) -> None:
    # Given no worker that would miss Redis too
    with stopped(compose, "reporter"):
        with stopped(compose, "redis"):
            # When a report is asked for, then it is taken
            answer = timed(site, "POST", "/reports", json={"period": "day"})
            assert answer.status_code == 202, answer.text
            # RabbitMQ counts every few seconds
            until(lambda: compose.messages("reporter") == 1)
            # And its state cannot be told just now
            links = answer.json()["links"]
            for path in (links["self"], links["events"]):
                problem(timed(site, "GET", path), 503, "results-away")
            assert timed(site, "GET", "/readyz").json()["results"] == "away"
        until(lambda: site.get("/readyz").json()["results"] == "ok", RETURN)
    # When Redis and the worker are back, then it was done
    until(lambda: site.get(links["self"]).status_code == 200, RETURN)
    assert finished(site, answer.json()["id"])["state"] == "SUCCESS"


def test_with_redis_paused_so_too(compose: ComposeHouse, site: Site) -> None:
    with stopped(compose, "reporter"), paused(compose, "redis"):
        answer = timed(site, "POST", "/reports", json={"period": "day"})
        assert answer.status_code == 202, answer.text
        problem(timed(site, "GET", answer.json()["links"]["self"]), 503, "results-away")
    until(lambda: site.get(answer.json()["links"]["self"]).status_code == 200, RETURN)
    assert finished(site, answer.json()["id"])["state"] == "SUCCESS"


def test_a_redis_that_was_started_anew_is_used_at_once(compose: ComposeHouse, site: Site) -> None:
    # Given a gateway that holds connections to a Redis that is gone
    problem(site.get("/tasks/nobody"), 404, "unknown-task")
    with stopped(compose, "redis"):
        pass
    until(
        lambda: (
            "PONG"
            in compose.compose("exec", "-T", "redis", "redis-cli", "--user", "health", "--pass", "any", "ping").stdout
        ),
        RETURN,
    )
    # Then the first question to the new one is answered
    problem(site.get("/tasks/nobody"), 404, "unknown-task")
