"""Where an app connects, as whom, and for how long."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from shared.results.sqlite import SqliteBackend
from tests.unit.app.recording import MakeApp

ROOT = Path(__file__).parents[3]


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
