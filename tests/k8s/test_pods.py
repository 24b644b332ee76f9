"""What every pod is: hardened as "restricted" asks, small enough, named by its labels, and with nothing missing."""

import json
import re
from pathlib import Path

import pytest

from services.gateway.settings import GatewaySettings
from shared.exporter import ExporterSettings
from shared.render.kubernetes import kubernetes_name
from shared.render.worker import worker_arguments
from shared.spec import ServiceSpec
from shared.topology import SERVICES
from tests.k8s.manifests import (
    ROOT,
    Json,
    Manifests,
    byte_count,
    container_of,
    environment,
    has_an_app,
    labels_of,
    name_of,
    pod_of,
    selects,
    volumes_of,
)

by_name = pytest.mark.parametrize("spec", SERVICES, ids=lambda spec: spec.name)

#: What the "restricted" Pod Security Standard lets a pod mount.
RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
#: Variables that others read: the SDK of the object store.
FOREIGN = {"AWS_REGION", "AWS_ENDPOINT_URL", "AWS_SHARED_CREDENTIALS_FILE"}
#: What only other variables' values name.
PARTS = {"BROKER_SCHEME", "BROKER_ADDRESS", "REDIS_SCHEME", "REDIS_ADDRESS"}


def kind_of(volume: Json) -> str:
    (kind,) = volume.keys() - {"name"}
    return kind


def secrets_of(manifests: Manifests) -> dict[str, set[str]]:
    """The keys of each Secret: those that are rendered, and those that an operator makes."""
    found = {name_of(one): set(one["data"]) for one in manifests.of("Secret")}
    for one in manifests.of("ExternalSecret"):
        found[one["spec"]["target"]["name"]] = {entry["secretKey"] for entry in one["spec"]["data"]}
    for one in manifests.of("Certificate"):
        found[one["spec"]["secretName"]] = {"tls.crt", "tls.key", "ca.crt"}
    return found


# --- Hardened ---------------------------------------------------------------------------------------------------------


def test_every_pod_is_restricted(manifests: Manifests) -> None:
    for workload in manifests.workloads:
        pod, container = pod_of(workload), container_of(workload)
        secured, own = pod["securityContext"], container["securityContext"]
        assert secured["runAsNonRoot"] is True, name_of(workload)
        assert isinstance(secured["runAsUser"], int) and secured["runAsUser"] > 0
        assert isinstance(secured["runAsGroup"], int) and secured["runAsGroup"] > 0
        assert secured["seccompProfile"] == {"type": "RuntimeDefault"}
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert not own.keys() & {"privileged", "runAsUser", "procMount"}
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "hostUsers", "initContainers"}
        assert not [port for port in container.get("ports", []) if "hostPort" in port]
        assert {kind_of(volume) for volume in pod["volumes"]} <= RESTRICTED_VOLUMES


def test_no_pod_holds_a_token_of_the_cluster(manifests: Manifests) -> None:
    accounts = {name_of(account): account for account in manifests.of("ServiceAccount")}
    for workload in manifests.workloads:
        assert pod_of(workload)["automountServiceAccountToken"] is False, name_of(workload)
        # An identity of its own all the same: a cloud gives rights by it.
        account = accounts[pod_of(workload)["serviceAccountName"]]
        assert account["automountServiceAccountToken"] is False
    names = [pod_of(workload)["serviceAccountName"] for workload in manifests.workloads]
    assert len(set(names)) == len(names)


def test_no_pod_gets_variables_of_the_services_beside_it(manifests: Manifests) -> None:
    # A Service `flower` gives FLOWER_PORT=tcp://..., and Flower takes it for its own.
    assert all(pod_of(workload)["enableServiceLinks"] is False for workload in manifests.workloads)


def test_a_secret_is_read_by_its_pod_alone(manifests: Manifests) -> None:
    for workload in manifests.workloads:
        for volume in volumes_of(workload).values():
            if "secret" in volume:
                # Without the group's right nobody but root could read it.
                assert volume["secret"]["defaultMode"] == 0o440
                assert (
                    pod_of(workload)["securityContext"]["fsGroup"] == pod_of(workload)["securityContext"]["runAsGroup"]
                )
        mounted = [
            mount for mount in container_of(workload)["volumeMounts"] if "secret" in volumes_of(workload)[mount["name"]]
        ]
        assert all(mount["readOnly"] for mount in mounted)


def test_no_secret_stands_in_a_command_or_a_variable(manifests: Manifests) -> None:
    for workload in manifests.workloads:
        for variable in container_of(workload).get("env", []):
            assert "secretKeyRef" not in variable.get("valueFrom", {}), "anyone who sees the container sees it"
    secrets = [value for secret in manifests.of("Secret") for value in secret["data"].values()]
    rest = json.dumps([document for document in manifests.documents if document["kind"] != "Secret"])
    assert not [secret for secret in secrets if secret in rest]


# --- What is named is there -------------------------------------------------------------------------------------------


def test_a_selector_finds_the_pods_of_its_own_workload_and_no_others(manifests: Manifests) -> None:
    for workload in manifests.workloads:
        found = [one for one in manifests.workloads if selects(workload["spec"]["selector"], labels_of(one))]
        assert found == [workload]


def test_labels_say_what_a_thing_is_and_belongs_to(manifests: Manifests) -> None:
    for workload in manifests.workloads:
        own = labels_of(workload)
        assert own["app.kubernetes.io/name"] == name_of(workload)
        assert own["app.kubernetes.io/part-of"] == "taskhouse"
        assert own.items() <= workload["metadata"]["labels"].items()


def test_every_service_selects_pods_with_its_ports(manifests: Manifests) -> None:
    for service in manifests.of("Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        found = [one for one in manifests.workloads if selects(selector, labels_of(one))]
        assert len(found) == 1, name_of(service)
        ports = {port["name"]: port["containerPort"] for port in container_of(found[0])["ports"]}
        for port in service["spec"]["ports"]:
            # By name, so that a number is written once, on the container.
            assert port["targetPort"] in ports, f"{name_of(service)}: {port['targetPort']}"
            assert ports[port["targetPort"]] == port["port"]


def test_every_stateful_set_has_its_headless_or_own_service(manifests: Manifests) -> None:
    services = {name_of(service) for service in manifests.of("Service")}
    assert {workload["spec"]["serviceName"] for workload in manifests.of("StatefulSet")} <= services


def test_probes_ask_ports_that_are_there(manifests: Manifests) -> None:
    for workload in manifests.workloads:
        container = container_of(workload)
        ports = {port["name"] for port in container.get("ports", [])}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container.get(kind, {})
            asked = probe.get("httpGet", probe.get("tcpSocket", {})).get("port")
            assert asked is None or asked in ports, f"{name_of(workload)} {kind}"
            # A handler that waits longer than its period would pile up.
            assert probe.get("timeoutSeconds", 1) <= probe.get("periodSeconds", 10)


def test_every_key_that_is_read_is_there(manifests: Manifests) -> None:
    config = {name_of(one): one["data"].keys() for one in manifests.of("ConfigMap")}
    secret = secrets_of(manifests)
    for workload in manifests.workloads:
        container = container_of(workload)
        for source in container.get("envFrom", []):
            assert source["configMapRef"]["name"] in config
        for variable in container.get("env", []):
            if "valueFrom" in variable:
                reference = variable["valueFrom"]["configMapKeyRef"]
                assert reference["key"] in config[reference["name"]], variable["name"]
        mounts = container["volumeMounts"]
        for name, volume in volumes_of(workload).items():
            mounted = [mount for mount in mounts if mount["name"] == name]
            assert mounted, f"{name_of(workload)}: the volume {name} is mounted nowhere"
            if "configMap" in volume:
                keys = {None, *config[volume["configMap"]["name"]]}
                assert {mount.get("subPath") for mount in mounted} <= keys
            elif "secret" in volume and not volume["secret"].get("optional"):
                assert secret[volume["secret"]["secretName"]]
            elif "persistentVolumeClaim" in volume:
                manifests.one("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
        assert {mount["name"] for mount in mounts} == volumes_of(workload).keys()


def test_every_file_that_a_variable_names_is_mounted(manifests: Manifests) -> None:
    contents = secrets_of(manifests)
    for workload in manifests.workloads:
        mounts = {mount["mountPath"]: mount["name"] for mount in container_of(workload)["volumeMounts"]}
        for name, value in environment(manifests, workload).items():
            if not name.endswith("_FILE") or not value or name == "AWS_SHARED_CREDENTIALS_FILE":
                continue
            folder, _, file = value.rpartition("/")
            volume = volumes_of(workload)[mounts[folder]]
            assert file in contents[volume["secret"]["secretName"]], f"{name_of(workload)}: {name}={value}"


def test_every_priority_that_is_named_is_there(manifests: Manifests) -> None:
    classes = {name_of(one): one["value"] for one in manifests.of("PriorityClass")}
    for workload in manifests.workloads:
        assert pod_of(workload)["priorityClassName"] in classes
    # The servers stay longest, workers go first; none is a system's own (from 10^9).
    assert 10**9 > classes["taskhouse-servers"] > classes["taskhouse-front"] > classes["taskhouse-workers"] > 0


# --- Settings ---------------------------------------------------------------------------------------------------------


def test_every_variable_is_known_to_the_settings(manifests: Manifests) -> None:
    fields = {field.upper() for model in (GatewaySettings, ExporterSettings) for field in model.model_fields}
    known = fields | {f"{field}_FILE" for field in fields} | FOREIGN | PARTS
    for workload in manifests.workloads:
        if labels_of(workload)["app.kubernetes.io/component"] != "server":
            assert not environment(manifests, workload).keys() - known, name_of(workload)


def test_every_process_starts_with_its_settings(manifests: Manifests, tmp_path: Path) -> None:
    # Given the files that the pods mount
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef")
    for workload in manifests.workloads:
        if not has_an_app(workload):
            continue
        given = environment(manifests, workload)
        files = {name: str(secret) for name, value in given.items() if name.endswith("_FILE") and value}

        # When the settings are read as the process reads them
        settings = GatewaySettings.load(given | files)

        # Then it is the cluster that they mean, as a user of its own
        user = {"cli": "operator"}.get(name_of(workload), name_of(workload))
        assert not settings.embedded
        assert f"://{user}:0123456789abcdef@rabbitmq:56" in settings.broker_urls()
        assert f"://{user}:0123456789abcdef@redis" in settings.redis_location()
        assert settings.reports_location.startswith(("/reports", "s3://"))


@by_name
def test_a_worker_is_what_its_spec_says(manifests: Manifests, spec: ServiceSpec) -> None:
    workload = manifests.one("Deployment", kubernetes_name(spec.name))
    container = container_of(workload)
    assert container["args"] == worker_arguments(spec)
    assert byte_count(container["resources"]["limits"]["memory"]) == spec.memory
    assert set(spec.settings) <= environment(manifests, workload).keys()
    assert {f"{name}_FILE" for name in spec.secrets} <= environment(manifests, workload).keys()


def test_the_folders_of_the_services_are_those_of_the_topology() -> None:
    folders = {path.name for path in (ROOT / "k8s" / "services").iterdir() if path.is_dir()}
    assert folders == {kubernetes_name(spec.name) for spec in SERVICES}


def test_a_changed_setting_rolls_the_pods(manifests: Manifests) -> None:
    # A generated name ends in a hash of what is in it.
    for document in manifests.of("ConfigMap", "Secret"):
        assert re.fullmatch(r".+-[a-z0-9]{10}", name_of(document))


# --- Time -------------------------------------------------------------------------------------------------------------


@by_name
def test_a_pod_is_not_killed_before_its_longest_task_is_done(manifests: Manifests, spec: ServiceSpec) -> None:
    workload = manifests.one("Deployment", kubernetes_name(spec.name))
    assert pod_of(workload)["terminationGracePeriodSeconds"] == spec.grace
    # Its hard limit, what a worker may then still wait before it gives back what it runs, and its own end.
    assert spec.grace >= spec.time_limit + (spec.stop_after or 0) + 10


@by_name
def test_a_new_pod_consumes_before_an_old_one_ends(manifests: Manifests, spec: ServiceSpec) -> None:
    workload = manifests.one("Deployment", kubernetes_name(spec.name))
    assert workload["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@by_name
def test_only_readiness_asks_for_the_broker(manifests: Manifests, spec: ServiceSpec) -> None:
    container = container_of(manifests.one("Deployment", kubernetes_name(spec.name)))
    asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    assert asked == {
        "startup": {"path": "/healthz", "port": "status"},
        "readiness": {"path": "/readyz", "port": "status"},
        "liveness": {"path": "/healthz", "port": "status"},
    }
    # Twelve containers that start at once share the processor: three minutes each.
    assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] >= 180


def test_one_beat_at_a_time(manifests: Manifests) -> None:
    beat = manifests.one("Deployment", "beat")
    assert beat["spec"]["replicas"] == 1
    assert beat["spec"]["strategy"] == {"type": "Recreate"}
