"""A broker and a result store that are away: refused at once, silent for ever, or without a name. No containers: what
is played here is the network. The servers themselves are taken away in tests/e2e/test_gateway.py."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from services.gateway import metrics
from services.gateway.broker import Attempt, BrokerAway
from tests.ports import free_port
from tests.servers import OwnRedis
from tests.serving import Serve, problem, until

#: Seconds in which everything must be answered.
BOUND = 2.0


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Takes connections, and says nothing: what a paused container does."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server


@pytest.fixture
def silent(listener: socket.socket) -> str:
    return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def closed() -> str:
    """An address where nobody listens."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(params=["closed", "silent", "nameless"])
def away(request: pytest.FixtureRequest) -> str:
    """Where a server should be and none answers."""
    return "broker.invalid:5672" if request.param == "nameless" else request.getfixturevalue(request.param)


def settings(broker: str, redis: str) -> dict[str, str]:
    return {"broker_url": f"amqp://gateway:secret@{broker}//", "redis_url": f"redis://gateway:secret@{redis}/0"}


def timed(ask: Callable[[], httpx.Response]) -> tuple[httpx.Response, float]:
    begin = time.monotonic()
    answer = ask()
    return answer, time.monotonic() - begin


def test_with_everything_away_a_task_is_refused_in_time(serve: Serve, away: str) -> None:
    # Given neither broker nor result store
    site = serve(**settings(away, away))
    for _ in range(2):
        # When a report is asked for
        answer, seconds = timed(lambda: site.post("/reports", json={}))
        # Then it is refused, soon, and not for ever
        problem(answer, 503, "broker-away")
        assert int(answer.headers["retry-after"]) > 0
        assert seconds < BOUND
        # And the client learns nothing of the servers
        assert "secret" not in answer.text and away not in answer.text


def test_many_at_once_are_refused_in_time_too(serve: Serve, silent: str) -> None:
    # Given a broker that says nothing, and more callers than there are threads to wait for it
    site = serve(**settings(silent, silent))
    with ThreadPoolExecutor(12) as callers:
        answers = list(callers.map(lambda _: timed(lambda: site.post("/reports", json={})), range(12)))
    # Then none of them waits for another's time
    for answer, seconds in answers:
        problem(answer, 503, "broker-away")
        assert seconds < BOUND


def test_with_the_result_store_away_states_are_refused_in_time(serve: Serve, closed: str, away: str) -> None:
    site = serve(**settings(closed, away))
    for path in ("/tasks/t1", "/tasks/t1/events"):
        answer, seconds = timed(lambda path=path: site.get(path))  # type: ignore[misc]
        problem(answer, 503, "results-away")
        assert seconds < BOUND


def test_a_result_store_that_refuses_is_not_waited_for(serve: Serve, closed: str) -> None:
    site = serve(**settings(closed, closed))
    _, seconds = timed(lambda: site.get("/tasks/t1"))
    assert seconds < 0.5


def test_names_that_nobody_looks_up_in_time_hold_nobody_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a name server that says nothing, which no timeout of a client covers
    look_up, answered = socket.getaddrinfo, threading.Event()

    def silent(host: Any, *arguments: Any, **options: Any) -> Any:
        return answered.wait(30) and [] if host == "server.invalid" else look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    site = serve(**settings("server.invalid:5672", "server.invalid:6379"))
    try:
        # When reports are asked for, more than there are threads to wait for it
        for _ in range(6):
            answer, seconds = timed(lambda: site.post("/reports", json={}))
            # Then they are refused in time
            problem(answer, 503, "broker-away")
            assert seconds < BOUND
        answer, seconds = timed(lambda: site.get("/tasks/t1"))
        problem(answer, 503, "results-away")
        assert seconds < BOUND
    finally:
        answered.set()


def test_an_outage_elsewhere_does_not_make_the_process_ill(serve: Serve, away: str) -> None:
    site = serve(**settings(away, away))
    # Given that neither server answers, the process itself still does
    answer, seconds = timed(lambda: site.get("/healthz"))
    assert answer.status_code == 200 and seconds < 0.5
    # And says that it takes no work, and why
    answer, seconds = timed(lambda: site.get("/readyz"))
    assert answer.status_code == 503 and seconds < BOUND
    assert answer.json() == {"broker": "away", "results": "away", "reports": "ok"}
    # And what needs neither is served
    assert site.get("/").status_code == site.get("/reports").status_code == 200


def store_up(port: int) -> str:
    """What the gateway tells Prometheus of the result store."""
    found = re.search(r"^taskhouse_result_store_up (.*)$", httpx.get(f"http://127.0.0.1:{port}/metrics").text, re.M)
    return found[1] if found else ""


def test_a_result_store_that_is_away_is_told_to_prometheus(
    serve: Serve, away: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "LOOK", 0.1)
    port = free_port()
    serve(**settings(away, away), status_port=port, status_host="127.0.0.1")
    until(lambda: store_up(port) == "0.0")


def test_a_result_store_that_comes_back_is_told_too(
    serve: Serve, closed: str, redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "LOOK", 0.1)
    port = free_port()
    ours = {**settings(closed, closed), "redis_url": redis.url}
    serve(**ours, status_port=port, status_host="127.0.0.1")
    until(lambda: store_up(port) == "1.0")
    # When it goes away, and comes back
    redis.stop()
    try:
        until(lambda: store_up(port) == "0.0")
    finally:
        redis.start()
    # Then so does the metric
    until(lambda: store_up(port) == "1.0")


def test_many_who_ask_for_readiness_share_one_look(serve: Serve, silent: str) -> None:
    # Given a broker that says nothing, so that each look at it takes a thread for a second
    site = serve(**settings(silent, silent))
    with ThreadPoolExecutor(12) as askers:
        answers = list(askers.map(lambda _: timed(lambda: site.get("/readyz")), range(12)))
    # One after the other they would take 12 times as long as one.
    assert all(answer.status_code == 503 and seconds < 3 * BOUND for answer, seconds in answers)


def test_nothing_is_logged_that_opens_a_door(serve: Serve, away: str, capfd: pytest.CaptureFixture[str]) -> None:
    site = serve(**settings(away, away))
    site.post("/reports", json={})
    site.get("/tasks/t1")
    output = "".join(capfd.readouterr())
    assert "was not submitted" in output and "secret" not in output


# --- An attempt -------------------------------------------------------------------------------------------------------


def test_an_attempt_that_was_abandoned_does_not_commit() -> None:
    attempt = Attempt()
    assert attempt.abandon()
    with pytest.raises(BrokerAway):
        attempt.begin_commit()


def test_an_attempt_that_commits_cannot_be_abandoned() -> None:
    attempt = Attempt()
    attempt.begin_commit()
    assert not attempt.abandon()


def test_an_attempt_commits_in_time_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = Attempt()
    assert 0 < attempt.remaining() < BOUND
    later: Any = time.monotonic() + BOUND
    monkeypatch.setattr(time, "monotonic", lambda: later)
    with pytest.raises(BrokerAway):
        attempt.begin_commit()
    with pytest.raises(BrokerAway):
        attempt.remaining()
