"""What an app knows, declares and speaks."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from kombu.connection import Connection

import shared.app
import shared.celery_config
from shared.app import App, create_app
from shared.errors import TopologyError
from shared.routing import queue
from shared.topology import SERVICES, queue_arguments, service
from shared.worker_health import Status, Watch
from tests.unit.app.recording import MakeApp

ROOT = Path(__file__).parents[3]


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
