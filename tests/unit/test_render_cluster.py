"""The compose file of the cluster, and how its nodes find each other."""

from typing import Any

import pytest
import yaml

from shared.render.cluster import clients, configuration, render
from shared.spec import ServiceSpec
from shared.topology import BROKER_NODES, PUBLISHERS, SERVICES

PAINTER = ServiceSpec("painter", "paints")
MORE = (*SERVICES, PAINTER)


@pytest.fixture
def services() -> dict[str, Any]:
    return yaml.safe_load(render(MORE))["services"]


def test_every_client_knows_every_node_and_the_primary(services: dict[str, Any]) -> None:
    # Given each service, one that was added too, each publisher, and those that come with Celery
    expected = {spec.name for spec in MORE} | {spec.name for spec in PUBLISHERS} | {"beat", "flower", "cli"}
    assert clients(MORE).keys() == expected

    # Then each is told of the other nodes, and where Redis takes writes
    for name, user in clients(MORE).items():
        environment = services[name]["environment"]
        assert environment["BROKER_FAILOVER"].split(",") == list(BROKER_NODES[1:])
        assert environment["REDIS_URL"] == f"redis://{user}@${{REDIS_PRIMARY:-redis}}:6379/0"
    assert clients(MORE)["cli"] == "operator"


def test_each_node_has_its_own_name_data_and_ports(services: dict[str, Any]) -> None:
    others = [services[node] for node in BROKER_NODES[1:]]
    assert [node["hostname"] for node in others] == list(BROKER_NODES[1:])
    data = [volume for node in others for volume in node["volumes"]]
    ports = [port for node in others for port in node["ports"]]
    assert len(set(data)) == len(data) and len(set(ports)) == len(ports) == 4


def test_the_setup_sees_the_passwords_of_the_replica(services: dict[str, Any]) -> None:
    assert services["setup"]["volumes"] == ["secrets-redis-replica:/secrets/redis-replica"]
    assert "secrets-redis-replica:/run/users:ro" in services["redis-replica"]["volumes"]


def test_each_node_looks_for_every_node() -> None:
    lines = dict(line.split(" = ") for line in configuration().splitlines() if line and not line.startswith("#"))
    nodes = [value for name, value in lines.items() if name.startswith("cluster_formation.classic_config.nodes.")]
    assert nodes == [f"rabbit@{node}" for node in BROKER_NODES]
    assert lines["quorum_queue.continuous_membership_reconciliation.target_group_size"] == "3"
