"""Prometheus' configuration for the local cluster: whom it scrapes, found by the names of compose's services."""

from collections.abc import Iterable
from typing import Any

import yaml

from shared.render.permissions import BEAT, EXPORTER
from shared.spec import ServiceSpec
from shared.topology import BROKER_NODES, PUBLISHERS, SERVICES

#: Where each process of ours has /metrics.
STATUS_PORT = 9100
#: Where RabbitMQ's plugin has them.
BROKER_PORT = 15692
#: The name that all nodes of RabbitMQ have in common on the network (compose/servers.yaml).
BROKER_ALIAS = "rabbitmq-nodes"
#: What each queue is told by, of RabbitMQ's many families.
QUEUE_FAMILIES = ("queue_coarse_metrics", "queue_consumer_count")
#: Seconds between two scrapes.
INTERVAL = 15


def render(services: Iterable[ServiceSpec] = SERVICES) -> str:
    """prometheus.yml."""
    names = [*(spec.name for spec in services), *(spec.name for spec in PUBLISHERS), BEAT]
    document = {
        "global": {"scrape_interval": f"{INTERVAL}s", "scrape_timeout": "10s", "evaluation_interval": f"{INTERVAL}s"},
        "rule_files": ["rules/*.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": ["alertmanager:9093"]}]}]},
        "scrape_configs": [
            _job("processes", names, STATUS_PORT),
            # What it tells of a service has that service's name already.
            _job("exporter", [EXPORTER], STATUS_PORT) | {"honor_labels": True},
            _job("broker", [BROKER_ALIAS], BROKER_PORT, BROKER_NODES[0]),
            _job("queues", [BROKER_ALIAS], BROKER_PORT, BROKER_NODES[0])
            | {"metrics_path": "/metrics/detailed", "params": {"family": list(QUEUE_FAMILIES)}},
        ],
    }
    return yaml.safe_dump(document, sort_keys=False, width=120)


def _job(name: str, hosts: list[str], port: int, service: str | None = None) -> dict[str, Any]:
    label: dict[str, Any] = {"target_label": "service"}
    # Each address of a name is a target: a pool of three containers is three.
    label |= {"source_labels": ["__meta_dns_name"]} if service is None else {"replacement": service}
    return {
        "job_name": name,
        "dns_sd_configs": [{"names": hosts, "type": "A", "port": port, "refresh_interval": f"{INTERVAL}s"}],
        "relabel_configs": [label],
    }
