"""What the optional components of k8s/ say of each service: how it scales, whom it may reach, how it is evicted."""

import ipaddress
from collections.abc import Iterable
from typing import Any

from shared.render import alerts
from shared.render.definitions import VHOST
from shared.render.kubernetes import (
    SYSTEM,
    Json,
    credential_files,
    credentials,
    dump,
    kubernetes_name,
    labels,
    selector,
    user_secrets,
)
from shared.render.permissions import EXPORTER
from shared.setup import OWNERS
from shared.spec import ServiceSpec
from shared.topology import SERVICES

#: Tasks a container should have, running and waiting together, for each that it can run at once.
BACKLOG = 2
#: The management API, as something in another namespace reaches it.
MANAGEMENT_URL = f"http://rabbitmq.{SYSTEM}.svc:15672"
#: Addresses that are nobody's outside: a task must not reach neighbours, nodes or a cloud's metadata through an egress
#: that is meant for the internet. RFC 1918, 6598, 3927; RFC 4193, 4291.
INSIDE = (
    "10.0.0.0/8",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fc00::/7",
    "fe80::/10",
)


def scaled_objects(services: Iterable[ServiceSpec] = SERVICES) -> str:
    """A KEDA ScaledObject for each pool, on the length of its own queue."""
    return dump(*(_scaled_object(spec) for spec in services))


def disruption_budgets(services: Iterable[ServiceSpec] = SERVICES) -> str:
    """A budget for each pool: one container at a time leaves a node that is drained."""
    return dump(*(_disruption_budget(spec) for spec in services))


def network_policies(services: Iterable[ServiceSpec] = SERVICES) -> str:
    """What each service reaches outside."""
    return dump(*(_network_policy(spec) for spec in services if spec.egress))


def external_secrets(services: Iterable[ServiceSpec] = SERVICES) -> str:
    """The Secrets of k8s/secrets, and those that the user gives, taken from a secret store."""
    given = (
        _external_secret(user_secrets(spec.name), [name.lower() for name in spec.secrets])
        for spec in services
        if spec.secrets
    )
    return dump(
        *(_external_secret(credentials(name), credential_files(name)) for name in OWNERS),
        _external_secret(credentials(EXPORTER), ["broker_password"]),
        _external_secret("rabbitmq-definitions", ["definitions.json"]),
        _external_secret("rabbitmq-monitor", ["username", "password"]),
        _external_secret(user_secrets("gateway"), ["gateway_api_keys"]),
        *given,
    )


def prometheus_rule(services: Iterable[ServiceSpec] = SERVICES) -> str:
    """Every alert, as the Prometheus Operator takes rules; a pool may be scaled to none here."""
    site = alerts.Site(scaled=True, namespace=SYSTEM, label=kubernetes_name)
    return dump(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": SYSTEM, "labels": {"app.kubernetes.io/part-of": SYSTEM}},
            "spec": {
                "groups": [alerts.group(name, found, site) for name, found in alerts.groups(services, site).items()]
            },
        }
    )


def _scaled_object(spec: ServiceSpec) -> Json:
    fewest, most = spec.scale
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": kubernetes_name(spec.name), "labels": labels(spec.name, "worker")},
        "spec": {
            "scaleTargetRef": {"name": kubernetes_name(spec.name)},
            "minReplicaCount": fewest,
            "maxReplicaCount": most,
            # Seconds. The first task of a pool that is not there waits for this, and for its container.
            "pollingInterval": 5,
            "cooldownPeriod": 120,
            # Where the broker cannot be asked: what the topology starts with, or more if more are there.
            "fallback": {
                "failureThreshold": 3,
                "replicas": max(1, spec.replicas),
                "behavior": "currentReplicasIfHigher",
            },
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior()}},
            "triggers": [
                {
                    "type": "rabbitmq",
                    "metricType": "AverageValue",
                    "metadata": {
                        "host": MANAGEMENT_URL,
                        "protocol": "http",
                        "vhostName": VHOST,
                        "queueName": spec.name,
                        "mode": "QueueLength",
                        "value": str(BACKLOG * spec.concurrency[1]),
                        # What runs counts: a pool that works is not idle because nothing waits.
                        "excludeUnacknowledged": "false",
                    },
                    "authenticationRef": {"name": "rabbitmq-monitor"},
                }
            ],
        },
    }


def _behavior() -> Json:
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Pods", "value": 2, "periodSeconds": 15}],
        },
        # Slowly, and by halves: a container that goes finishes what it runs, and takes nothing new meanwhile.
        "scaleDown": {
            "stabilizationWindowSeconds": 120,
            "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
        },
    }


def _disruption_budget(spec: ServiceSpec) -> Json:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": kubernetes_name(spec.name), "labels": labels(spec.name, "worker")},
        "spec": {
            # Never `minAvailable`: with one container, or none, that would keep a node from being drained.
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector(spec.name)},
        },
    }


def _network_policy(spec: ServiceSpec) -> Json:
    name = kubernetes_name(spec.name)
    ports = [{"protocol": "TCP", "port": int(target.rpartition(":")[2])} for target in spec.egress]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"{name}-outside", "labels": labels(spec.name, "worker")},
        "spec": {
            "podSelector": {"matchLabels": selector(spec.name)},
            "policyTypes": ["Egress"],
            # Policies know addresses and no host names; which host it is, the settings say.
            "egress": [{"to": [_outside("0.0.0.0/0"), _outside("::/0")], "ports": ports}],
        },
    }


def _outside(everything: str) -> Json:
    whole = ipaddress.ip_network(everything)
    inside = [block for block in INSIDE if ipaddress.ip_network(block).version == whole.version]
    return {"ipBlock": {"cidr": everything, "except": inside}}


def _external_secret(name: str, keys: Iterable[str]) -> dict[str, Any]:
    return {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": SYSTEM}},
        "spec": {
            "refreshInterval": "1h0m0s",
            "secretStoreRef": {"kind": "ClusterSecretStore", "name": SYSTEM},
            "target": {"name": name, "creationPolicy": "Owner"},
            "data": [{"secretKey": key, "remoteRef": {"key": f"{SYSTEM}/{name}", "property": key}} for key in keys],
        },
    }
