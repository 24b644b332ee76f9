"""OpenTelemetry by one switch: spans of publishes and runs, joined across processes and services."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from celery import _state

from shared.app import App, create_app
from shared.config import Settings
from shared.errors import ConfigError
from shared.publish import publish_many
from shared.signatures import calculator
from shared.spec import Pool
from shared.topology import SERVICES, dead_letter_queue, service
from tests.choices.servers import Worker
from tests.ports import free_port
from tests.servers import OwnBroker, OwnRedis
from tests.serving import gateway
from tests.stand_ins.collector import Collector, Span
from tests.stand_ins.smtp import SmtpStandIn
from tests.waiting import eventually

pytestmark = pytest.mark.containers

ROOT = Path(__file__).parents[2]
#: A caller's own trace, as W3C writes it.
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HTTP = {"traceparent": f"00-{TRACE}-{CALLER}-01"}


class House:
    """Workers as they are needed, beside a real broker and a real Redis."""

    def __init__(self, stack: ExitStack, broker: OwnBroker, redis: OwnRedis, folder: Path, endpoint: str) -> None:
        self._stack, self._broker, self._redis, self._folder = stack, broker, redis, folder
        self.endpoint = endpoint
        self.app: App

    def environ(self, user: str) -> dict[str, str]:
        # A batch leaves after 0.2 s, and not after five.
        otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "CELERY_"))}
        return {**inherited, **self._broker.user(user, self._redis), **otel, "LOG_LEVEL": "INFO"}

    def start(self, name: str, pool: Pool = "prefork", **environ: str) -> Worker:
        """A worker of a service."""
        worker = Worker(
            replace(service(name), concurrency=(1, 2)), pool, {**self.environ(name), **environ}, self._folder
        )
        self._stack.callback(_end, worker)
        worker.wait()
        return worker

    def publisher(self) -> App:
        """The operator's app, as the current one."""
        self.app = create_app(settings=Settings.load(self.environ("operator")))
        self._stack.callback(self.app.close)
        return self.app


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector().running() as collector:
        yield collector


@pytest.fixture
def make(broker: OwnBroker, redis: OwnRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a house that tells `endpoint`."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")

    @contextmanager
    def house(endpoint: str) -> Iterator[House]:
        kept, default, environment = _state._tls.current_app, _state.default_app, dict(os.environ)
        with ExitStack() as stack:
            try:
                yield House(stack, broker, redis, tmp_path, endpoint)
            finally:
                stack.close()
                _purge(broker, redis)
                _state._tls.current_app = kept
                _state.set_default_app(default)
                os.environ.clear()
                os.environ.update(environment)

    return house


def _end(worker: Worker) -> None:
    if worker.process.poll() is None:
        os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.wait()


def _left(channel: Any, queue: str) -> None:
    eventually(lambda: channel.queue_declare(queue, passive=True).consumer_count == 0)


def _purge(broker: OwnBroker, redis: OwnRedis) -> None:
    app = create_app(settings=Settings.load(broker.user("operator", redis)), current=False)
    with app.connection_for_write() as connection:
        for name in ("calculator", "scoped", "mailer"):
            _left(connection.default_channel, name)
            for queue in (name, dead_letter_queue(name)):
                connection.default_channel.queue_purge(queue)
    app.close()


@pytest.fixture
def house(make: Any, collector: Collector) -> Iterator[House]:
    with make(collector.url) as house:
        yield house


def one(collector: Collector, name: str, count: int = 1) -> Span:
    """The only span called so, once it has come."""
    eventually(lambda: len(collector.of(name)) >= count)
    spans = collector.of(name)
    assert len(spans) == count, [span.name for span in collector.spans]
    return spans[-1]


def test_a_request_its_publish_and_the_runs_in_two_services_are_one_trace(house: House, collector: Collector) -> None:
    # Given the gateway, and two services of processes of which one calls the other
    with SmtpStandIn() as smtp, gateway(house.environ("gateway"), free_port()) as served:
        house.start("scoped")
        mailer = house.start("mailer", SMTP_URL=smtp.url)
        # When somebody who is traced asks for a notice
        notice = {"user": "ada@example.org", "event": "quota_low", "facts": {"left": 1, "until": "2026-11-20"}}
        answer = httpx.post(f"{served.url}/notifications", json=notice, headers=HTTP)
        assert answer.status_code == 202, answer.text
        task_id = answer.json()["id"]
        # Then each step is a span, and the child of the one before
        steps = (
            ("POST /notifications", "SERVER", "gateway"),
            ("publish scoped.notify", "PRODUCER", "gateway"),
            ("process scoped.notify", "CONSUMER", "scoped"),
            ("publish mailer.send_email", "PRODUCER", "scoped"),
            ("process mailer.send_email", "CONSUMER", "mailer"),
        )
        above = CALLER
        for name, kind, who in steps:
            span = one(collector, name)
            assert (span.trace, span.parent, span.kind, span.service) == (TRACE, above, kind, who), span
            assert not span.failed and span.start <= span.end
            above = span.id
        # And says what the conventions ask for
        sent, run = (
            one(collector, "publish scoped.notify").attributes,
            one(collector, "process scoped.notify").attributes,
        )
        assert sent["messaging.system"] == run["messaging.system"] == "rabbitmq"
        assert (sent["messaging.operation.type"], run["messaging.operation.type"]) == ("send", "process")
        assert sent["messaging.message.id"] == run["messaging.message.id"] == task_id
        assert sent["messaging.destination.name"] == "tasks:scoped.notify"
        assert run["messaging.destination.name"] == "tasks:scoped.notify:scoped"
        assert run["celery.worker"].startswith("scoped@") and sent["server.address"]
        # A run is told by a process of the pool, and not by the one that forked it
        assert one(collector, "process mailer.send_email").instance.rpartition(":")[2] != str(mailer.process.pid)


def test_retries_failures_and_lost_processes_are_spans(house: House, collector: Collector) -> None:
    house.publisher()
    worker = house.start("calculator")
    # When a task needs two attempts
    calculator.unsteady(1).delay()

    def runs() -> list[Span]:
        return sorted(collector.of("process calculator.unsteady"), key=lambda span: span.start)

    eventually(lambda: len(runs()) == 2)
    first, second = runs()
    sends = {span.id: span for span in collector.of("publish calculator.unsteady")}
    # Then each is a span of one trace: the second was published by the first
    assert first.failed and first.events == ("exception",) and first.attributes["error.type"] == "Unsteady"
    assert not second.failed and second.trace == first.trace
    assert sends[second.parent].parent == first.id and not sends[first.parent].parent
    assert (first.attributes["celery.task.retries"], second.attributes["celery.task.retries"]) == (0, 1)
    assert second.attributes["messaging.message.id"] == first.attributes["messaging.message.id"]
    # When one fails
    calculator.add_days(3_000_000).delay()
    failed = one(collector, "process calculator.add_days")
    assert failed.failed and failed.attributes["error.type"] == "InvalidArguments"
    # When one loses its process, then the worker tells it in its place, for as long as it ran
    calculator.wait(20).delay()
    pids: list[int] = []

    def it_runs() -> bool:
        pids[:] = running(house.app)
        return bool(pids)

    eventually(it_runs)
    os.kill(pids[0], signal.SIGKILL)
    lost = one(collector, "process calculator.wait")
    assert lost.failed and lost.attributes["error.type"] == "WorkerLostError"
    assert lost.instance.endswith(f":{worker.process.pid}")
    assert lost.trace == one(collector, "publish calculator.wait").trace


def test_each_message_of_a_batch_has_a_span_of_its_own(house: House, collector: Collector) -> None:
    # Given many tasks that are published at once
    house.publisher()
    report = publish_many([calculator.add(number, 1) for number in range(50)], app=house.app)
    assert len(report.confirmed) == 50
    # When they are run
    house.start("calculator")
    eventually(lambda: len(collector.of("process calculator.add")) == 50)
    # Then each run is the child of the publish of just its own message, and none of these is an error
    sends = {span.id: span for span in collector.of("publish calculator.add")}
    assert len(sends) == 50 and not any(span.failed for span in sends.values())
    for run in collector.of("process calculator.add"):
        sent = sends[run.parent]
        assert sent.attributes["messaging.message.id"] == run.attributes["messaging.message.id"]


def running(app: App) -> list[int]:
    """Processes that run a task."""
    told = app.control.inspect(timeout=30, limit=1).active() or {}
    return [task["worker_pid"] for tasks in told.values() for task in tasks]


def test_what_a_process_has_left_is_sent_when_it_ends(make: Any, collector: Collector, tmp_path: Path) -> None:
    # Given processes that would send in an hour, each of which is replaced after one task
    with make(collector.url) as house:
        house.publisher()
        slow = {"OTEL_BSP_SCHEDULE_DELAY": "3600000"}
        worker = house.start("calculator", CELERY_WORKER_MAX_TASKS_PER_CHILD="1", **slow)
        for number in range(2):
            assert calculator.add(number, 1).delay().get(timeout=20) == number + 1
        # Then the one that was replaced has sent what it had
        eventually(lambda: len(collector.of("process calculator.add")) >= 1)
        # When the worker stops, then the last one too
        worker.stop()
        eventually(lambda: len(collector.of("process calculator.add")) == 2)
        assert len({span.instance for span in collector.of("process calculator.add")}) == 2


def test_a_collector_that_is_away_costs_no_task_anything(make: Any) -> None:
    # Given a collector that takes connections and never answers
    silent = socket.create_server(("127.0.0.1", 0), backlog=64)
    with silent, make(f"http://127.0.0.1:{silent.getsockname()[1]}") as house:
        house.publisher()
        worker = house.start("calculator")
        begun = time.monotonic()
        answers = [calculator.add(number, 1).delay() for number in range(100)]
        assert [answer.get(timeout=20) for answer in answers] == list(range(1, 101))
        # Then nobody has waited for it, neither the publisher nor a task: by one of them each it would be minutes
        assert time.monotonic() - begun < 20
        # And the worker ends as it should
        worker.stop()
        assert worker.process.returncode == 0
        assert "Traceback" not in worker.log.read_text()


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_the_fast_lane_makes_spans_too(
    pool: str, broker: OwnBroker, redis: OwnRedis, tmp_path: Path, house: House, collector: Collector
) -> None:
    from tests.fast_lane import worker as tasks
    from tests.fast_lane.test_fast_lane import Lane

    app = house.publisher()
    lane = Lane(broker, redis, tmp_path, "yes", pool)
    lane._environ |= house.environ("calculator")
    try:
        lane.start()
        # When a task of the lane succeeds and another fails
        (done,) = [app.send_task(tasks.effect.name, kwargs={"key": "a"}, ignore_result=False)]
        assert done.get(timeout=20) == "a"
        app.send_task(tasks.fail.name, kwargs={"key": "b"}, ignore_result=True)
        # Then each has its span, below that of its publish
        for task, failed in ((tasks.effect, False), (tasks.fail, True)):
            span, sent = one(collector, f"process {task.name}"), one(collector, f"publish {task.name}")
            assert (span.parent, span.trace, span.failed) == (sent.id, sent.trace, failed)
    finally:
        lane.close()


def test_without_the_switch_nothing_is_imported_and_nothing_listens() -> None:
    code = (
        "import json, sys; from shared.app import create_app; app = create_app('calculator');"
        "from celery import signals;"
        "print(json.dumps([sorted(m for m in sys.modules if 'opentelemetry' in m), app.spans is None,"
        " len(signals.task_prerun.receivers)]))"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    told = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == [[], True, 1]


def test_an_endpoint_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_ENDPOINT: must be a URL"):
        Settings.load({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"})


def test_every_container_with_an_app_is_given_the_switch() -> None:
    defaults = yaml.safe_load((ROOT / "compose" / "defaults.yaml").read_text())["services"]
    assert defaults["celery"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == "${OTEL_EXPORTER_OTLP_ENDPOINT:-}"
    # And every image has what it needs
    for image in ("base", *(spec.name for spec in SERVICES), "gateway", "beat", "cli"):
        assert "\nopentelemetry-exporter-otlp-proto-http==" in (ROOT / "requirements" / f"{image}.txt").read_text()
