"""Whether a process is alive, and whether a worker takes work; the real worker is asked in tests/watching."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from celery.worker import state

from shared import worker_health
from shared.app import App
from shared.config import Settings
from shared.consumer import Consumer
from shared.embedded.worker import WorkerDied, running
from shared.errors import ConfigError
from shared.health import ALIVE_WITHIN, READY_WITHIN, Health
from shared.status import Answer, StatusServer
from shared.topology import service
from shared.worker_health import INTERVAL, NO_CONNECTION, REPLACED_WITHIN, RETRY, Broker, Watch

ROOT = Path(__file__).parents[2]


def until(condition: Callable[[], object], seconds: float = 20) -> bool:
    """Wait for `condition`; whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Clock:
    """A time that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Timer:
    """A later call that a test makes by itself."""

    def __init__(self, asked: tuple[float, Callable[..., None], tuple[Any, ...]]) -> None:
        self.seconds, self.function, self.args = asked
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def tick(self) -> None:
        self.function(*self.args)


def consumer(path: Path | None = None, consuming: bool | None = True, *, hub: bool = True) -> Any:
    """What a worker's watch sees of Celery's consumer; with None for `consuming` it has no connection."""
    tasks = SimpleNamespace(
        consuming_from=lambda name: bool(consuming) and name == "reporter",
        channel=SimpleNamespace(callbacks={"tag": None}, is_open=True),
    )
    return SimpleNamespace(
        app=SimpleNamespace(
            settings=Settings(health_file=path),
            spec=service("reporter"),
            amqp=SimpleNamespace(queues=SimpleNamespace(consume_from={"reporter": None})),
        ),
        health=Health(),
        hub=object() if hub else None,
        connection=SimpleNamespace(connection=None, connected=True),
        pool=SimpleNamespace(),
        task_consumer=None if consuming is None else tasks,
        timer=SimpleNamespace(call_after=lambda *asked: Timer(asked)),
    )


# --- A real worker ----------------------------------------------------------------------------------------------------


def test_a_worker_makes_its_file_again_and_takes_it_away_at_its_end(
    make_app: Callable[..., App], tmp_path: Path
) -> None:
    # Given a worker that runs
    app = make_app()
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with running(service("reporter"), app.settings, environ) as log:
        # Then its file is there
        [file] = (tmp_path / "local" / "health").iterdir()
        # When somebody checks, by deleting it
        file.unlink()
        # Then the worker consumes: a task that it refuses has an answer
        result = app.send_task("reporter.fetch_repos", kwargs={"since": "2026-01-01", "per_page": 0, "page": 1})
        assert until(result.ready), log.read_text()
        assert "per_page: Input should be greater than or equal to 1" in str(result.result)
        # And its file comes back
        assert until(file.exists), log.read_text()
    # When it ends, then its file is gone
    assert not file.exists()
    # And nothing was written elsewhere
    assert log == tmp_path / "local" / "log" / "reporter.log"


def test_a_worker_that_cannot_start_is_reported_with_its_log(tmp_path: Path) -> None:
    # Given a worker with a wrong setting
    settings = Settings(local_dir=tmp_path)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PUBLISH_TIMEOUT": "never"}
    # When it is started, then the error names its log, where the reason stands
    with (
        pytest.raises(WorkerDied, match=r"ended with status \d+: see .*reporter\.log"),
        running(service("reporter"), settings, environ),
    ):
        pytest.fail("must not run")
    assert "PUBLISH_TIMEOUT" in (tmp_path / "log" / "reporter.log").read_text()


# --- What is answered -------------------------------------------------------------------------------------------------


def test_what_does_not_turn_is_first_not_ready_and_then_not_alive() -> None:
    # Given a process that takes work
    clock = Clock()
    health = Health(None, clock=clock)
    assert health.ready() == health.alive() == (200, "ok\n", "text/plain; charset=utf-8")
    # When its loop has not turned for a while, then it is not ready
    clock.now += READY_WITHIN + 1
    assert health.ready().status == 503 and health.alive().status == 200
    # When for longer, then it is not alive
    clock.now += ALIVE_WITHIN
    assert health.alive()[:2] == (503, "its loop has not turned for 41 s\n")
    # When it turns, then it is both
    health.turn()
    assert health.ready().status == health.alive().status == 200


def test_what_announced_a_long_turn_is_both_for_so_long() -> None:
    clock = Clock()
    health = Health(None, clock=clock)
    health.turn(90)
    clock.now += 90 + READY_WITHIN
    assert health.ready().status == health.alive().status == 200


def test_what_is_stopping_takes_no_work_and_may_take_its_time() -> None:
    clock = Clock()
    health = Health(None, clock=clock)
    health.stop()
    clock.now += 10 * ALIVE_WITHIN
    assert health.ready()[:2] == (503, "it is stopping\n")
    assert health.alive()[:2] == (200, "stopping\n")


def test_a_port_that_is_taken_is_told_by_the_variables_name() -> None:
    # Given a port where somebody listens
    server = StatusServer("127.0.0.1", 0, Health().routes())
    try:
        # When another one asks for it, then the error names the variable
        with pytest.raises(ConfigError, match=f"STATUS_PORT: cannot listen on 127.0.0.1:{server.port}: Address"):
            StatusServer("127.0.0.1", server.port, Health().routes())
    finally:
        server.close()


def test_a_question_that_fails_is_answered_so_and_the_others_as_before(caplog: pytest.LogCaptureFixture) -> None:
    # Given something that cannot be told, and something that fails now and then
    def fail() -> Answer:
        raise ValueError("made to fail")

    server = StatusServer("127.0.0.1", 0, {**Health(None).routes(), "/metrics": fail}, fail)  # type: ignore[arg-type]
    try:
        # When it is asked for, then that is an error, in the log too
        assert httpx.get(f"http://127.0.0.1:{server.port}/metrics").status_code == 500
        assert "made to fail" in caplog.text
        # And the health is told as before
        assert httpx.get(f"http://127.0.0.1:{server.port}/healthz").status_code == 200
        assert until(lambda: "now and then" in caplog.text)
        assert httpx.get(f"http://127.0.0.1:{server.port}/healthz").status_code == 200
    finally:
        server.close()


def test_a_worker_that_tries_to_connect_is_alive_as_long_as_it_takes() -> None:
    # Given a worker whose broker is away for an hour
    clock = Clock()
    worker: Any = Consumer.__new__(Consumer)
    worker.health = Health(clock=clock)
    worker.app = SimpleNamespace(
        conf=SimpleNamespace(broker_connection_retry_on_startup=True, broker_connection_max_retries=None)
    )
    alive = []

    def ensure_connection(errback: Any, retries: Any, *, callback: Callable[[], None]) -> str:
        for _ in range(3600):
            clock.now += 1
            callback()
            alive.append(worker.health.alive().status == 200)
        return "connected"

    # When it tries each second, then it is alive, and not ready
    assert worker.ensure_connected(SimpleNamespace(ensure_connection=ensure_connection)) == "connected"
    assert all(alive) and len(alive) == 3600
    assert worker.health.ready().status == 503


# --- A worker that looks at itself ------------------------------------------------------------------------------------


def test_a_worker_that_consumes_is_ready_and_makes_its_file_repeatedly(tmp_path: Path) -> None:
    # Given a worker that consumes
    path = tmp_path / "health"
    worker = consumer(path)
    step = Watch(worker)
    # When it looks, then it is ready, and the file is there
    step.start(worker)
    step.timer.tick()
    assert worker.health.ready().status == 200 and path.exists()
    # When the file was deleted, then the worker's own loop makes it again
    path.unlink()
    assert step.timer.seconds == INTERVAL
    step.timer.tick()
    assert path.exists()


def test_without_a_hub_each_turn_of_the_loop_looks() -> None:
    # Given a pool whose timer is a thread of its own
    worker = consumer(hub=False)
    step = Watch(worker)
    step.start(worker)
    assert step.timer is None and worker.health.ready().status == 503
    # When its loop turns, then it is ready
    worker.each_turn(worker)
    assert worker.health.ready().status == 200


@pytest.mark.parametrize("consuming", [None, False], ids=json.dumps)
def test_a_worker_that_does_not_consume_is_not_ready(tmp_path: Path, consuming: bool | None) -> None:
    # Given a worker that is connected, at most, and does not consume its queue
    path = tmp_path / "health"
    worker = consumer(path, consuming)
    step = Watch(worker)
    # Then it is not ready, looks again soon, and there is no file
    step.start(worker)
    step.timer.tick()
    assert worker.health.ready()[:2] == (503, "it has no consumer on reporter\n")
    assert step.timer.seconds == RETRY and not path.exists()


@pytest.mark.parametrize("lost", [{"callbacks": {}}, {"is_open": False}], ids=json.dumps)
def test_a_consumer_that_only_kombu_remembers_does_not_count(lost: dict[str, Any]) -> None:
    worker = consumer()
    vars(worker.task_consumer.channel).update(lost)
    step = Watch(worker)
    step.start(worker)
    step.timer.tick()
    assert worker.health.ready().status == 503


def test_a_worker_that_lost_its_connection_is_not_ready_and_takes_its_file_away(tmp_path: Path) -> None:
    # Given a worker that consumed
    path = tmp_path / "health"
    worker = consumer(path)
    step = Watch(worker)
    step.start(worker)
    step.timer.tick()
    timer = step.timer
    # When its connection is gone, which stops this step, perhaps twice
    step.stop(worker)
    step.stop(worker)
    # Then it says so, the file is gone, and nobody makes it again
    assert worker.health.ready()[:2] == (503, "it has no connection to the broker\n")
    assert not path.exists() and timer.cancelled


def test_a_file_that_cannot_be_made_is_told_and_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    worker = consumer(tmp_path / "nowhere" / "health")
    step = Watch(worker)
    step.start(worker)
    step.timer.tick()
    assert "HEALTH_FILE: cannot make" in caplog.text and "No such file" in caplog.text


# --- The broker, and the pool -----------------------------------------------------------------------------------------


def test_a_broker_that_missed_two_heartbeats_is_told() -> None:
    # Given a connection with a heartbeat of 30 s
    clock, worker = Clock(), consumer()
    wire = worker.connection.connection = SimpleNamespace(heartbeat=30, bytes_recv=7)
    broker = Broker(clock)
    assert broker.fault(worker) is None
    # When nothing came for longer, then it is told
    clock.now += 31
    assert broker.fault(worker) == "the broker has said nothing for 31 s"
    # When something comes, then all is well
    wire.bytes_recv += 1
    assert broker.fault(worker) is None
    # And where no heartbeat was agreed on, silence says nothing
    wire.heartbeat = 0
    clock.now += 1000
    assert broker.fault(worker) is None


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What Celery's worker knows of its tasks."""
    known = SimpleNamespace(reserved_requests=set(), active_requests=set(), all_total_count=[0])
    for name, value in vars(known).items():
        monkeypatch.setattr(state, name, value)
    return known


def test_a_pool_that_takes_no_task_is_told_and_one_that_is_busy_is_not(tasks: SimpleNamespace) -> None:
    # Given a pool where two tasks run, and a third waits
    clock, worker = Clock(), consumer()
    pool = worker_health.Pool(clock)
    tasks.reserved_requests |= {1, 2, 3}
    tasks.active_requests |= {1, 2}
    # When they take long, then it is merely busy
    for _ in range(100):
        clock.now += 1
        assert pool.fault(worker) is None
    # When they have ended and nobody takes the third, then that is told
    tasks.active_requests.clear()
    faults = []
    for _ in range(15):
        clock.now += 1
        faults.append(pool.fault(worker))
    assert faults[5] is None and faults[-1] == "its pool takes no task"
    # When it is taken, and done between two looks, then all is well
    tasks.all_total_count[0] += 1
    assert pool.fault(worker) is None


def test_a_pool_without_processes_is_told_unless_they_are_being_replaced(tasks: SimpleNamespace) -> None:
    # Given a pool whose processes are gone
    clock, worker = Clock(), consumer()
    gone = subprocess.Popen(["true"])
    gone.wait()
    worker.pool = SimpleNamespace(_pool=SimpleNamespace(_pool=[gone]))
    pool = worker_health.Pool(clock)
    # Then it is given a moment
    assert pool.fault(worker) is None
    # When they are not replaced in it, then that is told
    clock.now += REPLACED_WITHIN + 1
    assert pool.fault(worker) == "no process of its pool runs"
    # When there is one, then all is well
    worker.pool._pool._pool.append(SimpleNamespace(pid=os.getpid()))
    assert pool.fault(worker) is None


def test_a_connection_that_is_gone_is_not_made_anew_by_looking_at_it() -> None:
    # Given a worker whose connection is lost: to ask kombu for it would connect, and wait
    class Lost:
        connected = False

        @property
        def connection(self) -> None:
            raise AssertionError("it connects")

    # Then it is told, and nobody connects
    assert Broker().fault(SimpleNamespace(connection=Lost())) == NO_CONNECTION
