"""The workers' compose file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from celery.bin.worker import worker

from shared.render.compose import render
from shared.render.worker import embedded_arguments, worker_arguments
from shared.spec import Pool, ServiceSpec
from shared.topology import SERVICES

COMPOSE = Path(__file__).parents[2] / "compose"

PAINTER = ServiceSpec(
    "painter",
    "paints",
    pool="threads",
    concurrency=(3, 9),
    soft_time_limit=100,
    time_limit=200,
    memory=123 * 2**20,
    replicas=4,
    settings=("BRUSH", "LOG_LEVEL"),
    secrets=("RECIPE", "KEY"),
)
MORE = (*SERVICES, PAINTER)


class Loader(yaml.SafeLoader):
    """Reads YAML with compose's own tags, such as `!reset`."""


Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


@pytest.fixture
def document() -> dict[str, Any]:
    return yaml.safe_load(render(MORE))


@pytest.fixture
def painter(document: dict[str, Any]) -> dict[str, Any]:
    return document["services"]["painter"]


# --- Workers ----------------------------------------------------------------------------------------------------------


def test_there_is_a_container_for_each_service_and_one_that_makes_the_passwords(document: dict[str, Any]) -> None:
    assert document["services"].keys() == {spec.name for spec in MORE} | {"setup"}


@pytest.mark.parametrize("spec", MORE, ids=lambda spec: spec.name)
def test_a_container_is_what_its_spec_says(document: dict[str, Any], spec: ServiceSpec) -> None:
    container = document["services"][spec.name]
    # As everywhere, but the user may choose another pool.
    pool = f"${{{spec.name.upper()}_POOL:-{spec.pool}}}"
    expected = [f"--pool={pool}" if one == f"--pool={spec.pool}" else one for one in worker_arguments(spec)]
    assert container["command"] == expected and f"--pool={pool}" in expected
    assert container["mem_limit"] == spec.memory
    assert container["scale"] == spec.replicas
    assert container["build"]["args"] == {"SERVICE": spec.name}
    assert container["image"].startswith(f"taskhouse/{spec.name}:")


@pytest.mark.parametrize("spec", MORE, ids=lambda spec: spec.name)
def test_a_container_is_not_killed_before_its_longest_task_is_done(document: dict[str, Any], spec: ServiceSpec) -> None:
    grace = document["services"][spec.name]["stop_grace_period"]
    assert grace.endswith("s")
    assert int(grace[:-1]) >= spec.time_limit + (spec.stop_after or 0) + 10 > spec.soft_time_limit


@pytest.mark.parametrize("spec", MORE, ids=lambda spec: spec.name)
def test_a_worker_opens_no_port(document: dict[str, Any], spec: ServiceSpec) -> None:
    # It is asked by messages alone.
    opened = {"ports", "expose", "network_mode", "privileged", "user", "cap_add"}
    assert not document["services"][spec.name].keys() & opened


def test_every_port_of_the_house_is_open_to_this_machine_only() -> None:
    # Given every compose file
    files = sorted(COMPOSE.glob("*.yaml"))
    ports = [
        (file.name, port)
        for file in files
        for service in (yaml.load(file.read_text(), Loader).get("services") or {}).values()
        for port in service.get("ports", [])
    ]
    # Then who wants to open a port to others must say so
    assert ports
    for name, port in ports:
        assert isinstance(port, str) and port.startswith(("127.0.0.1:", "${BIND_ADDRESS:-127.0.0.1}:")), (name, port)


def test_a_service_that_speaks_to_nobody_outside_has_no_way_out(document: dict[str, Any]) -> None:
    assert PAINTER.egress == () and "networks" not in document["services"]["painter"]
    assert document["services"]["reporter"]["networks"] == ["core", "outside"]


def test_a_worker_extends_what_all_workers_have_in_common(painter: dict[str, Any]) -> None:
    extended = painter["extends"]
    defaults = yaml.safe_load((COMPOSE / extended["file"]).read_text())
    assert extended["service"] in defaults["services"]
    assert (COMPOSE / painter["build"]["context"] / painter["build"]["dockerfile"]).is_file()


# --- Settings and secrets ---------------------------------------------------------------------------------------------


def test_a_worker_logs_in_as_itself_and_its_password_is_in_no_variable(document: dict[str, Any]) -> None:
    for spec in MORE:
        environment = document["services"][spec.name]["environment"]
        assert environment["BROKER_URL"] == f"amqp://{spec.name}@rabbitmq:5672//"
        assert environment["REDIS_URL"] == f"redis://{spec.name}@redis:6379/0"
        assert not [name for name in environment if "PASSWORD" in name and not name.endswith("_FILE")]


def test_a_setting_that_is_left_open_has_its_local_value(document: dict[str, Any]) -> None:
    environment = document["services"]["mailer"]["environment"]
    assert environment["SMTP_URL"] == "${SMTP_URL:-smtp://mailcatcher:1025}"


def test_settings_are_passed_on_and_may_be_left_open(painter: dict[str, Any]) -> None:
    environment = painter["environment"]
    assert (environment["BRUSH"], environment["LOG_LEVEL"]) == ("${BRUSH:-}", "${LOG_LEVEL:-}")


def test_a_secret_of_the_users_is_a_file_and_never_a_value(painter: dict[str, Any]) -> None:
    for name, mount in (("RECIPE", "/run/user-secrets/recipe"), ("KEY", "/run/user-secrets/key")):
        # Given that the user names a file, or none
        assert painter["environment"][f"{name}_FILE"] == f"${{{name}_FILE:+{mount}}}"
        assert f"${{{name}_FILE:-/dev/null}}:{mount}:ro" in painter["volumes"]
        # Then its content is in no variable
        assert name not in painter["environment"]


def test_passwords_are_read_only_and_each_service_sees_its_own(document: dict[str, Any]) -> None:
    for spec in MORE:
        mounts = [mount for mount in document["services"][spec.name]["volumes"] if mount.startswith("secrets-")]
        assert mounts == [f"secrets-{spec.name}:/run/secrets:ro"]


def test_only_the_setup_sees_every_volume_of_passwords(document: dict[str, Any]) -> None:
    assert document["services"]["setup"]["volumes"] == [f"secrets-{s.name}:/secrets/{s.name}" for s in MORE]
    assert document["volumes"].keys() == {f"secrets-{spec.name}" for spec in MORE}


# --- How a worker is started ------------------------------------------------------------------------------------------


def test_a_worker_takes_its_own_queue_and_stays_off_the_control_exchange() -> None:
    arguments = worker_arguments(PAINTER)
    assert arguments[:3] == ["-A", "services.painter.app", "worker"]
    assert {"--queues=painter", "--without-mingle", "--without-gossip"} <= set(arguments)
    # A name of its own on each host, so that two workers never share a control queue.
    assert "--hostname=painter@%h" in arguments


@pytest.mark.parametrize(
    ("pool", "concurrency", "option"),
    [
        ("prefork", (3, 9), "--autoscale=9,3"),
        ("gevent", (3, 9), "--autoscale=9,3"),
        ("threads", (3, 9), "--concurrency=9"),
        ("prefork", (4, 4), "--concurrency=4"),
        ("solo", (1, 1), "--concurrency=1"),
    ],
)
def test_a_pool_moves_between_its_bounds_where_it_can(pool: Pool, concurrency: tuple[int, int], option: str) -> None:
    arguments = worker_arguments(replace(PAINTER, pool=pool, concurrency=concurrency))
    assert f"--pool={pool}" in arguments and option in arguments
    assert sum(each.startswith(("--autoscale", "--concurrency")) for each in arguments) == 1


def test_celery_understands_how_a_worker_is_started() -> None:
    # Given the command line of each service, compose's and the embedded one
    context = click.Context(worker)
    for spec in MORE:
        for arguments in (worker_arguments(spec), embedded_arguments(spec)):
            # When Celery reads what follows `worker`
            parsed, rest, _ = worker.make_parser(context).parse_args(arguments[3:])
            # Then it knows each option, and nothing is left over
            assert parsed["hostname"] == f"{spec.name}@%h" and rest == []
