"""What an app declares, where it sends, and how carefully."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery import chain, chord, chunks, group, signals
from hypothesis import given
from hypothesis import strategies as st
from kombu.connection import Connection
from kombu.messaging import Producer
from kombu.transport.native_delayed_delivery import calculate_routing_key

import shared.app
import shared.celery_config
from shared.app import App, create_app
from shared.config import Settings
from shared.delays import whole_seconds
from shared.errors import InvalidArguments, TopologyError
from shared.results.sqlite import SqliteBackend
from shared.routing import queue, route
from shared.signatures import Declaration, mailer
from shared.signatures import reporter as contract
from shared.spec import Schedule
from shared.topology import SERVICES, queue_arguments, service
from shared.worker_health import Status, Watch

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
MakeApp = Callable[..., App]


class RecordingProducer(Producer):
    """Keeps the tasks that it was told to publish, and drops Celery's events."""

    def __init__(self) -> None:
        super().__init__(Connection("memory://").channel())
        self.published: list[dict[str, Any]] = []

    def publish(self, body: Any, **options: Any) -> None:
        if getattr(options["exchange"], "name", options["exchange"]) != "celeryev":
            self.published.append({"body": body, **options})


@pytest.fixture
def producer() -> RecordingProducer:
    return RecordingProducer()


@pytest.fixture(params=["cluster", "embedded"])
def settings(request: pytest.FixtureRequest, cluster: dict[str, str]) -> dict[str, str]:
    """The settings of each mode."""
    return cluster if request.param == "cluster" else {}


def to(producer: RecordingProducer) -> dict[str, Any]:
    """Options to publish there. A caller who wants the result would subscribe to it first, in Redis."""
    return {"producer": producer, "ignore_result": True}


@contextmanager
def announced() -> Iterator[list[dict[str, Any]]]:
    """What Celery says that it is about to publish."""
    heard: list[dict[str, Any]] = []

    def hear(**told: Any) -> None:
        heard.append(told)

    signals.before_task_publish.connect(hear)
    try:
        yield heard
    finally:
        signals.before_task_publish.disconnect(hear)


def arrived(app: App, name: str = "reporter") -> Any:
    """The next message in a queue of the embedded broker."""
    with app.connection_for_read() as connection:
        return connection.default_channel.basic_get(name, no_ack=True)


# --- What it knows and declares ---------------------------------------------------------------------------------------


def test_a_publisher_knows_every_queue(make_app: MakeApp, settings: dict[str, str]) -> None:
    # Celery delays by the broker only where it knows a quorum queue.
    app = make_app(**settings)
    assert app.spec is None
    assert set(app.amqp.queues) == {spec.name for spec in SERVICES}


def test_a_worker_knows_only_its_own_queue(
    make_app: MakeApp, cluster: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a topology with another service
    other = replace(SERVICES[0], name="painter", schedules=())
    monkeypatch.setattr(shared.celery_config, "SERVICES", (*SERVICES, other))
    # Then a worker knows its own queue, because it binds and detects by all that it knows
    app = make_app("reporter", **cluster)
    assert app.spec == service("reporter") and app.main == "reporter"
    assert list(app.amqp.queues) == ["reporter"]
    # And a publisher knows them all
    assert set(make_app(**cluster).amqp.queues) == {*(spec.name for spec in SERVICES), "painter"}


@pytest.mark.parametrize("name", [None, "reporter"])
def test_queues_are_declared_as_the_topology_says(
    make_app: MakeApp, settings: dict[str, str], name: str | None
) -> None:
    # Given any app
    known = make_app(name, **settings).amqp.queues["reporter"]
    # Then its queue is the quorum queue, bound to the tasks exchange by the service's keys
    assert known.queue_arguments == queue_arguments("reporter")
    assert known.queue_arguments["x-queue-type"] == "quorum"
    assert known.durable and not known.auto_delete
    bound = {(each.exchange.name, each.exchange.type, each.routing_key) for each in known.bindings}
    assert bound == {("tasks", "topic", "reporter.#"), ("tasks", "topic", "all.#")}


@pytest.mark.parametrize("name", [None, "reporter"])
def test_in_a_cluster_nothing_is_declared(make_app: MakeApp, cluster: dict[str, str], name: str | None) -> None:
    # Given an app whose user may not declare
    app = make_app(name, **cluster)
    # Then whatever it would use is marked as being there already
    for known in app.amqp.queues.values():
        assert known.no_declare and all(each.exchange.no_declare for each in known.bindings)
    assert app.control.mailbox.exchange.no_declare and app.control.mailbox.reply_exchange.no_declare
    assert app.events.Dispatcher(connection=Connection("memory://"), enabled=False).exchange.no_declare


def test_embedded_queues_are_declared(make_app: MakeApp) -> None:
    # There the types of exchanges live in the process that declared them.
    app = make_app()
    for known in app.amqp.queues.values():
        assert not known.no_declare and not any(each.exchange.no_declare for each in known.bindings)
    assert not app.control.mailbox.exchange.no_declare


def test_the_queue_of_a_spec_is_a_value() -> None:
    assert queue(SERVICES[0], declared_ahead=True) == queue(SERVICES[0], declared_ahead=True)


@pytest.mark.parametrize("name", [None, "reporter"])
def test_no_queue_is_ever_made_up(make_app: MakeApp, settings: dict[str, str], name: str | None) -> None:
    # A queue that Celery makes by itself is classic and direct.
    app = make_app(name, **settings)
    assert app.conf.task_create_missing_queues is False
    with pytest.raises(Exception, match="painter"):
        app.amqp.router.route({"queue": "painter"}, "painter.paint")


@pytest.mark.parametrize("name", [None, "reporter"])
def test_only_json_is_spoken(make_app: MakeApp, settings: dict[str, str], name: str | None) -> None:
    conf = make_app(name, **settings).conf
    assert (conf.task_serializer, conf.result_serializer, list(conf.accept_content)) == (
        "json",
        "json",
        ["application/json"],
    )
    assert (list(conf.result_accept_content), conf.task_compression) == (["json"], None)


@pytest.mark.parametrize("name", [None, "reporter"])
def test_another_serializer_is_spoken_beside_json(
    make_app: MakeApp, settings: dict[str, str], name: str | None
) -> None:
    chosen = {"task_serializer": "msgpack", "task_accept": ("yaml",), "task_compression": "zstd"}
    app = make_app(name, **{**settings, **chosen})
    assert set(app.conf.accept_content) == {"application/json", "application/x-msgpack", "application/x-yaml"}
    assert (app.conf.result_serializer, app.conf.task_compression) == ("json", "zstd")
    # Who commands workers, and who reads their answers, is another process.
    assert (app.control.mailbox.serializer, app.control.mailbox.accept) == ("json", ["json"])


def test_a_guest_leaves_the_hosts_serializers_and_packings_alone(make_app: MakeApp) -> None:
    code = """
from kombu import compression, serialization
known = (dict(serialization.registry._decoders), dict(compression._decoders))
from shared.app import create_app
create_app(current=False)
assert known == (serialization.registry._decoders, compression._decoders)
create_app()
assert known != (serialization.registry._decoders, compression._decoders)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={"PATH": ""})
    assert done.returncode == 0, done.stderr


def over_redis(make_app: MakeApp, settings: dict[str, str], name: str | None = None) -> App:
    return make_app(name, **{**settings, "broker_url": "redis://reporter@redis.invalid:6379/1"})


@pytest.mark.parametrize("name", [None, "reporter"])
def test_over_redis_nothing_is_taken_for_declared(make_app: MakeApp, cluster: dict[str, str], name: str | None) -> None:
    app = over_redis(make_app, cluster, name)
    assert not any(queue.no_declare or queue.queue_arguments for queue in app.amqp.queues.values())
    assert app.conf.broker_transport_options["visibility_timeout"] == 3600
    assert "confirm_publish" not in app.conf.broker_transport_options
    assert not app.control.mailbox.exchange.no_declare


def test_a_publisher_says_at_its_start_that_redis_is_its_broker(
    make_app: MakeApp, cluster: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    make_app(**cluster)
    assert not caplog.text
    over_redis(make_app, cluster)
    assert "BROKER_URL is Redis, which promises less than RabbitMQ" in caplog.text


def test_a_worker_loses_nothing(make_app: MakeApp, settings: dict[str, str]) -> None:
    conf = make_app("reporter", **settings).conf
    assert conf.task_acks_late and conf.task_reject_on_worker_lost and not conf.task_acks_on_failure_or_timeout
    assert conf.worker_prefetch_multiplier == 1
    assert (conf.task_soft_time_limit, conf.task_time_limit) == (60, 90)
    assert conf.worker_consumer == "shared.consumer:Consumer"


def test_results_are_kept_only_where_a_signature_says_so(make_app: MakeApp, settings: dict[str, str]) -> None:
    assert make_app(**settings).conf.task_ignore_result is True


def test_a_worker_loads_its_own_tasks(make_app: MakeApp, settings: dict[str, str]) -> None:
    assert make_app("reporter", **settings).conf.include == ["services.reporter.tasks"]
    assert not make_app(**settings).conf.include


def test_a_worker_watches_itself_and_answers_only_when_told_where(make_app: MakeApp) -> None:
    assert Watch in make_app("reporter").steps["consumer"]
    assert Status in make_app("reporter", status_port=9100).steps["worker"]
    assert Status not in make_app("reporter").steps["worker"]
    assert not make_app(status_port=9100).steps["worker"]


def test_a_service_that_is_not_there_has_no_app(make_app: MakeApp) -> None:
    with pytest.raises(TopologyError, match="painter"):
        make_app("painter")


def test_an_app_is_made_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_app: MakeApp) -> None:
    monkeypatch.setenv("LOCAL_DIR", str(tmp_path / "elsewhere"))
    app = create_app()
    assert app.settings.local_dir == tmp_path / "elsewhere" and app.settings.embedded


def test_a_topology_that_contradicts_itself_has_no_app(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise TopologyError("no")

    monkeypatch.setattr(shared.app, "validate", refuse)
    with pytest.raises(TopologyError):
        make_app()


# --- Where it connects ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "reporter"])
def test_the_password_is_in_every_url_that_connects(
    make_app: MakeApp, cluster: dict[str, str], name: str | None
) -> None:
    # Given URLs without passwords, and the passwords beside them
    conf = make_app(name, **cluster).conf
    # Then Celery has both together
    broker = "amqp://reporter:hunter2@broker.invalid:5672//"
    assert (conf.broker_url, conf.broker_read_url, conf.broker_write_url) == (broker, broker, broker)
    assert conf.result_backend == "shared.results.redis:RedisBackend+redis://reporter:hunter3@redis.invalid:6379/0"


def test_clients_begin_with_different_nodes_and_know_all(make_app: MakeApp, cluster: dict[str, str]) -> None:
    # Given a broker of three nodes
    hosts = {"broker.invalid", "two.invalid", "three.invalid"}
    # When many clients are made
    lists = [
        make_app("reporter", **cluster, broker_failover="two.invalid,three.invalid").conf.broker_url.split(";")
        for _ in range(60)
    ]
    # Then each node is some client's first, and each client knows every node
    assert {urlsplit(urls[0]).hostname for urls in lists} == hosts
    assert all({urlsplit(url).hostname for url in urls} == hosts for urls in lists)


def test_beat_keeps_its_schedule_in_redis(make_app: MakeApp, cluster: dict[str, str]) -> None:
    conf = make_app(**cluster).conf
    assert conf.beat_scheduler == "shared.beat.Scheduler"
    assert conf.redbeat_redis_url == "redis://reporter:hunter3@redis.invalid:6379/0"


def test_celerys_own_variable_does_not_win(
    make_app: MakeApp, cluster: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given that `celery` copied BROKER_URL, without the password, to where it looks first
    monkeypatch.setenv("CELERY_BROKER_URL", cluster["broker_url"])
    # When the app is made
    app = make_app("reporter", **cluster)
    # Then it connects with the password
    assert app.conf.broker_url == app.conf.broker_write_url == "amqp://reporter:hunter2@broker.invalid:5672//"
    for connection in (app.connection(), app.connection_for_read(), app.connection_for_write()):
        assert (connection.userid, connection.password) == ("reporter", "hunter2")


def test_the_command_line_connects_with_the_password(cluster: dict[str, str], tmp_path: Path) -> None:
    # Given the environment of a container
    (tmp_path / "password").write_text("hunter2\n")
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "BROKER_URL": cluster["broker_url"],
        "BROKER_PASSWORD_FILE": str(tmp_path / "password"),
        "REDIS_URL": cluster["redis_url"],
        "LOCAL_DIR": str(tmp_path / "local"),
    }
    # When `celery` itself loads the app, and a command of it asks what the app would connect to
    code = """
import click
from celery.bin.celery import celery

@celery.command()
@click.pass_context
def passwords(context):
    app = context.obj.app
    for connection in (app.connection(), app.connection_for_read(), app.connection_for_write()):
        print(connection.userid, connection.password)

celery(["-A", "shared.app", "passwords"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    # Then each connection has the password, though BROKER_URL has none
    assert done.stdout.splitlines() == ["reporter hunter2"] * 3, done.stderr


def test_what_a_worker_tells_of_its_settings_holds_no_password(make_app: MakeApp, cluster: dict[str, str]) -> None:
    # Given what `celery inspect conf`, and so Flower, shows of a worker
    told = make_app("reporter", **cluster).conf.table(with_defaults=True, censored=True)
    # Then no password is in it
    assert {key: value for key, value in told.items() if "hunter" in repr(value)} == {}


def test_a_cluster_bounds_every_wait(make_app: MakeApp, cluster: dict[str, str]) -> None:
    conf = make_app(**cluster, publish_timeout=7.0).conf
    assert conf.broker_transport_options == {"confirm_publish": True, "confirm_timeout": 7.0}
    assert conf.redis_socket_connect_timeout and conf.redis_socket_timeout
    assert conf.result_backend_transport_options["retry_policy"]["max_retries"] == 3


def test_control_and_event_queues_are_exclusive(make_app: MakeApp, cluster: dict[str, str]) -> None:
    # Transient queues that are not exclusive are going away from RabbitMQ.
    conf = make_app("reporter", **cluster).conf
    assert conf.control_queue_exclusive and conf.event_queue_exclusive
    assert not conf.control_queue_durable and not conf.event_queue_durable
    assert conf.broker_channel_error_retry


def test_embedded_everything_is_below_the_local_folder(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app()
    local = tmp_path / "local"
    options = app.conf.broker_transport_options
    assert app.conf.broker_url == "embedded://"
    assert options["data_folder_in"] == options["data_folder_out"] == str(local / "broker" / "messages")
    assert options["control_folder"] == local / "broker" / "control"
    assert isinstance(app.backend, SqliteBackend) and app.backend.path == local / "results.sqlite"
    assert Path(app.conf.beat_schedule_filename).parent == local


# --- Routing ----------------------------------------------------------------------------------------------------------


def sent(app: App, signature: Any, producer: RecordingProducer) -> list[tuple[Any, Any]]:
    """Exchange and routing key of what publishing `signature` sends."""
    signature.clone().apply_async(**to(producer))
    return [(message["exchange"], message["routing_key"]) for message in producer.published]


@pytest.mark.parametrize("name", [None, "reporter"])
@pytest.mark.parametrize("task", ["reporter.produce_report", "painter.paint.v2", "all.ping", "unheard_of"])
def test_a_task_goes_to_the_tasks_exchange_by_its_name(
    make_app: MakeApp, settings: dict[str, str], name: str | None, task: str, producer: RecordingProducer
) -> None:
    app = make_app(name, **settings)
    app.send_task(task, **to(producer))
    [message] = producer.published
    assert (message["exchange"], message["routing_key"]) == ("tasks", task)


def test_a_signature_goes_the_same_way_through_any_app(
    make_app: MakeApp, cluster: dict[str, str], producer: RecordingProducer
) -> None:
    assert sent(make_app(**cluster), contract.produce_report(), producer) == [("tasks", "reporter.produce_report")]


@pytest.mark.parametrize("name", [None, "reporter"])
def test_chunks_go_to_the_service_of_their_task(
    make_app: MakeApp, name: str | None, producer: RecordingProducer
) -> None:
    # Given chunks of a task, published by anyone
    make_app(name)
    parts = chunks(contract.fetch_repos.s(), [("2026-01-01", 100, page) for page in range(1, 5)], 2).group()
    # When each is published
    for part in parts.tasks:
        part.apply_async(**to(producer))
    # Then the iteration runs where the task runs
    assert [message["headers"]["task"] for message in producer.published] == ["celery.starmap"] * 2
    assert [message["routing_key"] for message in producer.published] == ["reporter.fetch_repos"] * 2


@pytest.mark.parametrize("builtin", ["celery.map", "celery.starmap", "celery.chunks"])
def test_an_iteration_goes_to_the_service_of_its_task(builtin: str) -> None:
    # Given its task as an argument by name, as Celery gives it, or by place
    inner = contract.fetch_repos.s()
    for args, kwargs in (((), {"task": inner, "it": []}), ((dict(inner), []), {}), ((inner, []), None)):
        # Then its key leads to the task's service, whoever publishes
        assert route(None, builtin, args, kwargs)["routing_key"] == f"reporter.{builtin}"


@pytest.mark.parametrize("builtin", ["celery.accumulate", "celery.chord_unlock", "celery.backend_cleanup"])
def test_other_builtins_run_where_they_are_published(
    make_app: MakeApp, builtin: str, producer: RecordingProducer
) -> None:
    app = make_app("reporter")
    app.send_task(builtin, **to(producer))
    assert producer.published[0]["routing_key"] == f"reporter.{builtin}"


def _silent(item: int) -> None: ...


def test_celerys_own_tasks_answer_where_the_tasks_do_that_they_work_for(
    make_app: MakeApp, producer: RecordingProducer
) -> None:
    # Given a configuration that ignores results unless told otherwise
    app = make_app("reporter")
    assert app.conf.task_ignore_result
    # When a group takes a task's place, and tasks are run for each item
    app.tasks["celery.accumulate"].s(index=0).apply_async(**to(producer))
    for inner in (contract.fetch_repos, contract.produce_report):
        inner.map([1]).apply_async(**to(producer))
    silent: Declaration[..., Any] = Declaration("reporter.silent", _silent, keeps_result=False)
    silent.map([1]).apply_async(**to(producer))
    # Then each answers, unless the inner task does not
    assert [message["headers"]["ignore_result"] for message in producer.published] == [False, False, False, True]


def test_every_key_of_a_worker_leads_to_a_queue_that_its_user_may_publish_to() -> None:
    # A service may publish keys that begin with its own name, so its built-ins must begin so too.
    for spec in SERVICES:
        assert route(spec, "celery.accumulate", (), {})["routing_key"].startswith(f"{spec.name}.")


def test_a_canvas_is_routed_task_by_task(make_app: MakeApp) -> None:
    # Given an embedded app, and a chord in a chain
    app = make_app()
    pages = [contract.fetch_repos(NOW.date() - timedelta(400), 100, page) for page in (1, 2)]
    callback = contract.build_report.s(
        assignment={"question": {"since": "2026-01-01", "ref_date": "2026-01-08"}, "task_id": "t", "started": 1.0}
    )
    # When it is published
    chord(group(pages), callback).apply_async()
    # Then each page is in the service's queue with the callback's way inside
    keys, callbacks = [], []
    for _ in pages:
        message = arrived(app)
        keys.append(message.delivery_info["routing_key"])
        callbacks.append(json.loads(message.body)[2]["chord"]["options"]["routing_key"])
    assert keys == ["reporter.fetch_repos"] * 2 and callbacks == ["reporter.build_report"] * 2
    assert arrived(app) is None
    # And a chain sends its first task only
    chain(pages[0], callback).apply_async()
    assert arrived(app).headers["task"] == "reporter.fetch_repos" and arrived(app) is None


# --- How it publishes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "reporter"])
def test_a_publisher_waits_for_the_brokers_answer_but_not_for_ever(
    make_app: MakeApp, cluster: dict[str, str], name: str | None, producer: RecordingProducer
) -> None:
    # When anyone publishes
    make_app(name, **cluster, publish_timeout=7.0).send_task("reporter.produce_report", **to(producer))
    # Then the broker must confirm in time, and give back what it has no queue for
    [message] = producer.published
    assert message["mandatory"] is True and 0 < message["confirm_timeout"] <= message["timeout"] <= 7.0
    assert message["delivery_mode"] in (2, None) and producer.exchange.delivery_mode in (2, None)


def test_a_caller_may_wait_for_another_time(
    make_app: MakeApp, cluster: dict[str, str], producer: RecordingProducer
) -> None:
    app = make_app(**cluster)
    app.send_task("reporter.produce_report", **to(producer), confirm_timeout=1.5, mandatory=False)
    [message] = producer.published
    assert message["mandatory"] is False and 0 < message["confirm_timeout"] <= 1.5


def test_a_signatures_delay_publishes_with_care_too(
    make_app: MakeApp, cluster: dict[str, str], producer: RecordingProducer
) -> None:
    make_app(**cluster)
    contract.produce_report().apply_async(**to(producer))
    [message] = producer.published
    assert message["mandatory"] is True and 0 < message["confirm_timeout"] <= 10.0


def test_a_cluster_declares_nothing_when_it_publishes(
    make_app: MakeApp, cluster: dict[str, str], producer: RecordingProducer
) -> None:
    make_app(**cluster).send_task("reporter.produce_report", **to(producer))
    assert not producer.published[0].get("declare")


def test_a_message_is_persistent_and_says_what_it_is(make_app: MakeApp) -> None:
    # Given an embedded app
    app = make_app()
    # When a task is published
    with announced() as heard:
        result = app.send_task("reporter.produce_report", kwargs={"period": "day"})
    # Then its message is in the service's queue
    message = arrived(app)
    assert message.properties["delivery_mode"] == 2
    assert message.headers["id"] == result.id == message.properties["correlation_id"]
    assert message.headers["task"] == "reporter.produce_report"
    assert message.delivery_info["exchange"] == "tasks"
    assert message.delivery_info["routing_key"] == "reporter.produce_report"
    assert message.content_type == "application/json" and message.content_encoding == "utf-8"
    assert json.loads(message.body)[:2] == [[], {"period": "day"}]
    # And Celery told the same to whoever listens
    assert [(told["exchange"], told["routing_key"]) for told in heard] == [("tasks", "reporter.produce_report")]


# --- Delays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("countdown", "whole"), [(0.001, 1), (0.5, 1), (1, 1), (1.0, 1), (1.01, 2), (59.9, 60), (3600, 3600)]
)
def test_a_countdown_is_rounded_up_towhole_seconds(countdown: float, whole: int) -> None:
    rounded = whole_seconds(countdown, None, NOW)
    assert rounded == {"countdown": whole} and isinstance(rounded["countdown"], int)


@pytest.mark.parametrize("countdown", [None, 0, 0.0, -1, -0.5])
def test_no_countdown_is_left_as_it_is(countdown: float | None) -> None:
    assert whole_seconds(countdown, None, NOW) == {}


@pytest.mark.parametrize("ahead", [0.000001, 0.001, 0.5, 0.999999, 1])
def test_an_eta_of_up_to_a_second_becomes_a_second(ahead: float) -> None:
    assert whole_seconds(None, NOW + timedelta(seconds=ahead), NOW) == {"countdown": 1, "eta": None}


@pytest.mark.parametrize("ahead", [1.000001, 1.5, 1.999999])
def test_an_eta_of_just_over_a_second_becomes_two(ahead: float) -> None:
    # Celery counts again a moment later, and then it may be less than one.
    assert whole_seconds(None, NOW + timedelta(seconds=ahead), NOW) == {"countdown": 2, "eta": None}


@pytest.mark.parametrize("ahead", [-3600, -0.5, 0, 2, 2.5, 3600])
def test_any_other_eta_is_left_as_it_is(ahead: float) -> None:
    assert whole_seconds(None, NOW + timedelta(seconds=ahead), NOW) == {}


@pytest.mark.parametrize(
    "eta",
    [
        NOW + timedelta(seconds=0.5),
        (NOW + timedelta(seconds=0.5)).replace(tzinfo=None),
        (NOW + timedelta(seconds=0.5)).astimezone(timezone(timedelta(hours=5, minutes=30))),
        "2026-03-15T12:00:00.500000+00:00",
        "2026-03-15T12:00:00.500000Z",
        "2026-03-15T12:00:00.500000",
        "2026-03-15T17:30:00.500000+05:30",
    ],
    ids=str,
)
def test_an_eta_is_read_in_any_form(eta: datetime | str) -> None:
    assert whole_seconds(None, eta, NOW) == {"countdown": 1, "eta": None}


@given(st.floats(min_value=0.001, max_value=2**27))
def test_any_countdown_gives_a_key_that_the_broker_can_hold(countdown: float) -> None:
    # Given any delay
    whole = whole_seconds(countdown, None, NOW)["countdown"]
    # Then it is never too short, nor a second too long, and kombu makes a key of it
    assert countdown <= whole < countdown + 1
    assert calculate_routing_key(whole, "reporter.x").endswith(".reporter.x")


@pytest.mark.parametrize("name", [None, "reporter"])
@pytest.mark.parametrize(
    ("options", "seconds"),
    [({"countdown": 0.2}, 1), ({"countdown": 5}, 5), ({"countdown": 4.2}, 5), ({"countdown": 86400}, 86400)],
)
def test_a_delayed_task_waits_in_the_broker(
    make_app: MakeApp,
    cluster: dict[str, str],
    name: str | None,
    options: dict[str, Any],
    seconds: int,
    producer: RecordingProducer,
) -> None:
    # When a task is published with a delay
    make_app(name, **cluster).send_task("reporter.produce_report", **to(producer), **options)
    # Then it goes to the first of the delay exchanges, with the delay before its key
    [message] = producer.published
    assert message["exchange"].name == "celery_delayed_27"
    assert message["routing_key"] == calculate_routing_key(seconds, "reporter.produce_report")


@pytest.mark.parametrize("ahead", [0.3, 1.0005, 30])
def test_an_eta_waits_in_the_broker(
    make_app: MakeApp, cluster: dict[str, str], ahead: float, producer: RecordingProducer
) -> None:
    app = make_app(**cluster)
    app.send_task("reporter.produce_report", **to(producer), eta=app.now() + timedelta(seconds=ahead))
    [message] = producer.published
    assert message["exchange"].name == "celery_delayed_27"


@pytest.mark.parametrize("options", [{"countdown": 0}, {"countdown": -5}, {"eta": NOW - timedelta(days=400)}])
def test_a_delay_that_is_over_does_not_delay(
    make_app: MakeApp, cluster: dict[str, str], options: dict[str, Any], producer: RecordingProducer
) -> None:
    make_app(**cluster).send_task("reporter.produce_report", **to(producer), **options)
    assert producer.published[0]["exchange"] == "tasks"
    assert producer.published[0]["routing_key"] == "reporter.produce_report"


# --- The schedule -----------------------------------------------------------------------------------------------------


def scheduled(monkeypatch: pytest.MonkeyPatch, *schedules: Schedule) -> None:
    monkeypatch.setattr(shared.celery_config, "SERVICES", (replace(SERVICES[0], schedules=schedules),))


def test_beat_publishes_what_the_services_schedule(make_app: MakeApp, settings: dict[str, str]) -> None:
    app = make_app(**settings)
    entries = {schedule.name for spec in SERVICES for schedule in spec.schedules}
    assert set(app.conf.beat_schedule) == entries
    nightly = app.conf.beat_schedule["reporter.produce_report@0 0 * * *"]
    assert nightly["kwargs"] == {"period": "day"}
    assert nightly["options"] == {
        "ignore_result": True,
        "expires": 12 * 3600,
        "link": [mailer.send_report.s()],
    }
    assert (nightly["schedule"].hour, nightly["schedule"].minute) == ({0}, {0})


def test_days_are_added_every_ten_seconds(make_app: MakeApp, settings: dict[str, str]) -> None:
    # The example of a schedule by seconds. Nobody wants a tick when the next one is there.
    entry = make_app(**settings).conf.beat_schedule["calculator.add_days@every 10 s"]
    assert (entry["task"], entry["kwargs"]) == ("calculator.add_days", {"days": 1})
    assert entry["schedule"].run_every.total_seconds() == 10
    assert entry["options"] == {"ignore_result": True, "expires": 10}


def test_a_worker_schedules_nothing(make_app: MakeApp, settings: dict[str, str]) -> None:
    assert make_app("reporter", **settings).conf.beat_schedule == {}


def test_a_schedule_with_a_wrong_argument_stops_beat(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduled(monkeypatch, Schedule("reporter.produce_report", "0 0 * * *", {"period": "year"}))
    with pytest.raises(InvalidArguments, match=r"reporter\.produce_report: period"):
        make_app()


def test_a_schedule_of_a_task_that_nobody_declared_stops_beat(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduled(monkeypatch, Schedule("reporter.produce_reports", "0 0 * * *"))
    with pytest.raises(LookupError, match="produce_reports"):
        make_app()


@pytest.mark.parametrize("crontab", ["0 0 * *", "61 0 * * *", "daily"])
def test_a_schedule_at_no_time_stops_beat(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, crontab: str) -> None:
    scheduled(monkeypatch, Schedule("reporter.produce_report", crontab))
    with pytest.raises(ValueError):
        make_app()


def test_a_worker_does_not_stop_for_a_wrong_schedule(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduled(monkeypatch, Schedule("reporter.produce_report", "0 0 * * *", {"period": "year"}))
    assert make_app("reporter").conf.beat_schedule == {}


# --- The publisher's app ----------------------------------------------------------------------------------------------


def test_the_publishers_app_is_made_at_first_use(tmp_path: Path) -> None:
    # Given a process that imports the module, as a worker does
    code = """
import shared.app
import shared.celery_config
assert "app" not in vars(shared.app)
assert shared.app.app is shared.app.app and shared.app.app.spec is None
try:
    shared.app.other
except AttributeError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT), "LOCAL_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    # Then the app is there when it is asked for, once
    assert done.stdout == "module 'shared.app' has no attribute 'other'\n", done.stderr


def test_settings_of_a_test_do_not_reach_the_repository(make_app: MakeApp, tmp_path: Path) -> None:
    assert make_app().settings == Settings(local_dir=tmp_path / "local")


@pytest.mark.parametrize(
    ("name", "kept"), [("reporter.produce_report", True), ("nobody.does_this", False), ("reporter.unknown", False)]
)
def test_a_call_by_name_keeps_a_result_only_where_the_declaration_says_so(
    make_app: MakeApp, name: str, kept: bool
) -> None:
    # Given a publisher
    app = make_app()

    # When it calls a task by its name alone
    with announced() as heard:
        app.send_task(name, kwargs={})

    # Then the worker is told whether somebody reads the result, and the result store is not asked otherwise
    assert heard[0]["headers"]["ignore_result"] is not kept


def test_the_log_level_is_the_one_that_was_set(make_app: Callable[..., App], monkeypatch: pytest.MonkeyPatch) -> None:
    # When an app is made with LOG_LEVEL
    make_app("reporter", log_level="DEBUG")

    # Then `celery worker` and `celery beat` take it, unless their command line says otherwise
    assert os.environ["CELERY_WORKER_LOGLEVEL"] == os.environ["CELERY_BEAT_LOGLEVEL"] == "DEBUG"
