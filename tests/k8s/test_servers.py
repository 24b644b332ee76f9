"""Scaling, policies, budgets, monitors and the servers' own settings."""

import re
from pathlib import Path

import pytest
import yaml

from shared.render import alerts
from shared.render.kubernetes import kubernetes_name, selector
from shared.spec import ServiceSpec
from shared.topology import SERVICES
from tests.alerts.tools import run
from tests.k8s.manifests import (
    ROOT,
    Json,
    Manifests,
    container_of,
    labels_of,
    name_of,
    pod_of,
    selects,
)

by_name = pytest.mark.parametrize("spec", SERVICES, ids=lambda spec: spec.name)
SCALED = "local-autoscaling"


# --- Scaling ----------------------------------------------------------------------------------------------------------


def test_nothing_says_how_many_where_something_scales_them(manifests: Manifests) -> None:
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in manifests.of("ScaledObject", "HorizontalPodAutoscaler")}
    for workload in manifests.workloads:
        assert ("replicas" in workload["spec"]) == (name_of(workload) not in scaled), name_of(workload)


def test_one_thing_scales_a_pool(manifests: Manifests) -> None:
    scaled = [one["spec"]["scaleTargetRef"]["name"] for one in manifests.of("ScaledObject", "HorizontalPodAutoscaler")]
    assert len(set(scaled)) == len(scaled)
    for name in scaled:
        manifests.one("Deployment", name)


@by_name
def test_a_pool_follows_its_own_queue(combinations: dict[str, Manifests], spec: ServiceSpec) -> None:
    made = combinations[SCALED]
    scaled = made.one("ScaledObject", kubernetes_name(spec.name))["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == spec.scale
    assert scaled["scaleTargetRef"] == {"name": kubernetes_name(spec.name)}
    (trigger,) = scaled["triggers"]
    asked = trigger["metadata"]
    assert (asked["queueName"], asked["vhostName"], asked["mode"]) == (spec.name, "/", "QueueLength")
    # What runs counts: else a pool that works on its last tasks is taken away from them.
    assert (asked["protocol"], asked["excludeUnacknowledged"]) == ("http", "false")
    # A container gets no fewer than it can run at once.
    assert int(asked["value"]) >= spec.concurrency[1]


def test_keda_reaches_the_broker_where_it_is(combinations: dict[str, Manifests]) -> None:
    made = combinations[SCALED]
    service = made.one("Service", "rabbitmq")
    (management,) = [port for port in service["spec"]["ports"] if port["name"] == "management"]
    # KEDA lives in another namespace: the name must say this one.
    address = f"http://{name_of(service)}.{service['metadata']['namespace']}.svc:{management['port']}"
    assert {one["spec"]["triggers"][0]["metadata"]["host"] for one in made.of("ScaledObject")} == {address}


def test_keda_logs_in_as_a_user_that_only_sees(combinations: dict[str, Manifests]) -> None:
    for name in (SCALED, "production"):
        made = combinations[name]
        authentication = made.one("TriggerAuthentication", "rabbitmq-monitor")
        keys = {
            entry["parameter"]: (entry["name"], entry["key"]) for entry in authentication["spec"]["secretTargetRef"]
        }
        secrets = {name_of(one): set(one["data"]) for one in made.of("Secret")}
        for one in made.of("ExternalSecret"):
            secrets[name_of(one)] = {entry["secretKey"] for entry in one["spec"]["data"]}
        assert keys.keys() == {"username", "password"}
        assert all(key in secrets[secret] for secret, key in keys.values())
        named = {one["spec"]["triggers"][0]["authenticationRef"]["name"] for one in made.of("ScaledObject")}
        assert named == {name_of(authentication)}


def test_a_broker_that_cannot_be_asked_takes_no_pool_away(combinations: dict[str, Manifests]) -> None:
    for scaled in combinations[SCALED].of("ScaledObject"):
        fallback = scaled["spec"]["fallback"]
        assert fallback["replicas"] >= 1 and fallback["behavior"] == "currentReplicasIfHigher"
        # KEDA knows a fallback for averages alone.
        assert scaled["spec"]["triggers"][0]["metricType"] == "AverageValue"


def test_a_pool_goes_down_slowly(combinations: dict[str, Manifests]) -> None:
    for scaled in combinations[SCALED].of("ScaledObject"):
        down = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
        assert down["stabilizationWindowSeconds"] >= 60
        assert all(policy["type"] == "Percent" and policy["value"] <= 50 for policy in down["policies"])
        assert scaled["spec"]["cooldownPeriod"] >= 60


def test_the_calculator_may_follow_its_processor_instead(combinations: dict[str, Manifests]) -> None:
    made = combinations["local with autoscaling, hpa-cpu"]
    scaler = made.one("HorizontalPodAutoscaler", "calculator")
    assert scaler["spec"]["minReplicas"] >= 1
    assert {name_of(one) for one in made.of("ScaledObject")} == {kubernetes_name(spec.name) for spec in SERVICES} - {
        "calculator"
    }


# --- Budgets and monitors ---------------------------------------------------------------------------------------------


@by_name
def test_one_container_of_a_pool_leaves_at_a_time(combinations: dict[str, Manifests], spec: ServiceSpec) -> None:
    budget = combinations["local with disruption-budgets"].one("PodDisruptionBudget", kubernetes_name(spec.name))
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"]["matchLabels"] == selector(spec.name)


def test_every_monitor_finds_the_port_that_it_scrapes(combinations: dict[str, Manifests]) -> None:
    made = combinations["local with monitoring"]
    workers = {kubernetes_name(spec.name) for spec in SERVICES}
    whom = {"processes": workers | {"gateway", "beat"}, "exporter": {"exporter"}}
    assert {name_of(monitor) for monitor in made.of("PodMonitor")} == whom.keys()
    for monitor in made.of("PodMonitor"):
        found = [one for one in made.workloads if selects(monitor["spec"]["selector"], labels_of(one))]
        assert {name_of(one) for one in found} == whom[name_of(monitor)]
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            # What the exporter tells of a service keeps that service's name.
            assert endpoint.get("honorLabels", False) == (name_of(monitor) == "exporter")
            for one in found:
                assert endpoint["port"] in [port["name"] for port in container_of(one)["ports"]]
    for monitor in made.of("ServiceMonitor"):
        services = [
            one for one in made.of("Service") if selects(monitor["spec"]["selector"], one["metadata"]["labels"])
        ]
        ports = {port["name"] for service in services for port in service["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports


def test_the_alerts_are_those_of_compose_and_look_at_series_that_are_there(
    combinations: dict[str, Manifests], tmp_path: Path
) -> None:
    for name in ("local with monitoring", "production"):
        made = combinations[name]
        groups = made.one("PrometheusRule", "taskhouse")["spec"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        # Given the alerts of compose, of each service and of the house
        compose = {(name, one.name, one.service) for name, found in alerts.groups().items() for one in found}
        assert {
            (group["name"], one["alert"], one["labels"]["service"]) for group in groups for one in group["rules"]
        } == {(name, alert, kubernetes_name(service)) for name, alert, service in compose}
        # Then what they ask of a service, they ask by the name that its monitor gives it
        monitored = {
            labels_of(one)["app.kubernetes.io/name"]
            for monitor in made.of("PodMonitor")
            for one in made.workloads
            if selects(monitor["spec"]["selector"], labels_of(one))
        }
        asked = {found for rule in rules for found in re.findall(r'up{service="([\w-]+)"', rule["expr"])}
        assert asked == monitored | {"rabbitmq"}
        # And of no other namespace's
        spaces = {found for rule in rules for found in re.findall(r'up{service=[^}]*namespace="(\w+)"', rule["expr"])}
        assert spaces == {made.one("PrometheusRule", "taskhouse")["metadata"]["namespace"]}
        # And a pool that is scaled to none is not missed while nothing waits
        empty = {spec.name for spec in SERVICES if spec.scale[0] == 0}
        for rule in rules:
            if rule["alert"] == "NoConsumer":
                assert ("queue_ready" in rule["expr"]) == (rule["labels"]["service"] in empty), rule["expr"]
        # And Prometheus can read them
        (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
        run("promtool", "check", "rules", tmp_path / "rules.yml")


# --- Servers ----------------------------------------------------------------------------------------------------------


def test_the_broker_has_the_settings_of_compose(combinations: dict[str, Manifests]) -> None:
    compose = (ROOT / "compose" / "rabbitmq" / "taskhouse.conf").read_text()
    for name in ("local", "production"):
        made = combinations[name]
        settings = made.one("ConfigMap", "rabbitmq-settings")
        assert settings["data"]["taskhouse.conf"] == compose
        mounts, volumes = _broker(made)
        (mount,) = [one for one in mounts if one["mountPath"] == "/etc/rabbitmq/conf.d/50-taskhouse.conf"]
        assert volumes[mount["name"]]["configMap"]["name"] == name_of(settings)
        # And the definitions lie where its settings say.
        path = Path(compose.partition("definitions.local.path = ")[2].splitlines()[0])
        (mount,) = [one for one in mounts if one["mountPath"] == str(path.parent)]
        assert volumes[mount["name"]]["secret"]["secretName"].startswith("rabbitmq-definitions")


def test_the_broker_counts_with_its_own_limit_of_memory(local: Manifests) -> None:
    broker = local.one("StatefulSet", "rabbitmq")
    config = local.one("ConfigMap", "rabbitmq-container")
    assert container_of(broker)["resources"]["limits"]["memory"] == "1Gi"
    assert "total_memory_available_override_value = 1GiB\n" in config["data"]["container.conf"]


def test_production_has_three_nodes_on_three_machines(production: Manifests) -> None:
    cluster = production.one("RabbitmqCluster", "rabbitmq")["spec"]
    assert cluster["replicas"] == 3
    (rule,) = cluster["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    # The label that the operator gives its pods: the name of the cluster.
    assert rule["labelSelector"]["matchLabels"] == {"app.kubernetes.io/name": "rabbitmq"}
    # Definitions are loaded before the cluster is whole: each queue gets its other members later.
    assert "continuous_membership_reconciliation.target_group_size = 3" in cluster["rabbitmq"]["additionalConfig"]
    assert not production.of("StatefulSet"), "the servers are an operator's, or managed"


def test_production_speaks_tls_to_its_servers(production: Manifests) -> None:
    addresses = production.one("ConfigMap", "addresses")["data"]
    assert (addresses["BROKER_SCHEME"], addresses["BROKER_ADDRESS"]) == ("amqps", "rabbitmq:5671")
    assert addresses["REDIS_SCHEME"] == "rediss" and addresses["REPORTS_URL"].startswith("s3://")
    certificate = production.one("Certificate", "rabbitmq")["spec"]
    assert addresses["BROKER_ADDRESS"].partition(":")[0] in certificate["dnsNames"]
    assert production.one("RabbitmqCluster", "rabbitmq")["spec"]["tls"] == {"secretName": certificate["secretName"]}
    # Nobody but the broker has its key.
    for workload in production.workloads:
        for volume in pod_of(workload)["volumes"]:
            if volume.get("secret", {}).get("secretName") == certificate["secretName"]:
                assert volume["secret"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]
    # And the way without is closed.
    for policy in production.of("NetworkPolicy"):
        for rule in (*policy["spec"].get("egress", []), *policy["spec"].get("ingress", [])):
            assert 5672 not in [port["port"] for port in rule.get("ports", [])], name_of(policy)


def test_no_secret_is_part_of_production(production: Manifests) -> None:
    assert not production.of("Secret")
    wanted = {
        volume["secret"]["secretName"]
        for workload in production.workloads
        for volume in pod_of(workload)["volumes"]
        if "secret" in volume and not volume["secret"].get("optional")
    }
    made = {name_of(one) for one in production.of("ExternalSecret")} | {"rabbitmq-tls"}
    assert wanted <= made


def _broker(made: Manifests) -> tuple[list[Json], dict[str, Json]]:
    if found := made.of("RabbitmqCluster"):
        pod = found[0]["spec"]["override"]["statefulSet"]["spec"]["template"]["spec"]
    else:
        pod = pod_of(made.one("StatefulSet", "rabbitmq"))
    return pod["containers"][0]["volumeMounts"], {volume["name"]: volume for volume in pod["volumes"]}


def test_a_menu_item_that_is_commented_out_exists() -> None:
    text = (ROOT / "k8s" / "overlays" / "local" / "kustomization.yaml").read_text()
    offered = [
        line.partition("../../components/")[2] for line in text.splitlines() if line.strip().startswith("# - ../..")
    ]
    assert offered
    assert all((ROOT / "k8s" / "components" / name).is_dir() for name in offered)
    assert yaml.safe_load(text)["kind"] == "Kustomization"
