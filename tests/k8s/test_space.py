"""What the house takes of a node: processor, memory, disk, images."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.render.kubernetes import kubernetes_name
from shared.topology import SERVICES, ServiceSpec
from tests.k8s.manifests import (
    ROOT,
    Manifests,
    byte_count,
    container_of,
    environment,
    name_of,
    requests_of,
    volumes_of,
)

by_name = pytest.mark.parametrize("spec", SERVICES, ids=lambda spec: spec.name)


def test_requests_are_below_limits(manifests: Manifests) -> None:
    for workload in manifests.workloads:
        resources = container_of(workload)["resources"]
        _, memory = requests_of(container_of(workload))
        assert memory <= byte_count(resources["limits"]["memory"]), name_of(workload)
        # A worker that is held back misses its heartbeats; what is free may be used.
        assert "cpu" not in resources["limits"]


def test_the_local_house_fits_one_node_of_two_cores_and_six_gibibytes(combinations: dict[str, Manifests]) -> None:
    everything = combinations["local with all of these"].workloads
    asked = [requests_of(container_of(one)) for one in everything]
    # Beside it: the system's own pods (0.95 cores where the control plane is on the same node) and KEDA's (0.3 cores).
    assert sum(cpu for cpu, _ in asked) <= 0.6
    assert sum(memory for _, memory in asked) <= 2.5 * 2**30
    # And there is room for one more pod of each pool while it is rolled, and for a mailer of five.
    mailer = requests_of(container_of(combinations["local"].one("Deployment", "mailer")))
    assert sum(cpu for cpu, _ in asked) + 5 * 0.025 + 4 * mailer[0] <= 0.75
    assert sum(memory for _, memory in asked) + 4 * mailer[1] <= 3.5 * 2**30


def test_what_is_written_is_bounded(manifests: Manifests) -> None:
    for workload in manifests.workloads:
        for volume in volumes_of(workload).values():
            if "emptyDir" in volume:
                assert byte_count(volume["emptyDir"]["sizeLimit"]) <= 2 * 2**30, name_of(workload)


@by_name
def test_the_logs_of_a_services_tasks_stay_below_their_volumes_limit(local: Manifests, spec: ServiceSpec) -> None:
    # Else the pod is evicted, and its tasks with it.
    workload = local.one("Deployment", kubernetes_name(spec.name))
    given = environment(local, workload)
    of_one = int(given["TASK_LOG_SIZE"]) * (1 + int(given["TASK_LOG_BACKUPS"]))
    limit = byte_count(volumes_of(workload)["task-logs"]["emptyDir"]["sizeLimit"])
    assert task_count(spec) * of_one <= limit


def task_count(spec: ServiceSpec) -> int:
    code = f"from services.{spec.name}.app import app; app.loader.import_default_modules(); print(len(app.tasks))"
    python = subprocess.run(
        ["python", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env=_like_a_shell()
    )
    return int(python.stdout.splitlines()[-1])


def _like_a_shell() -> dict[str, str]:
    return {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": os.environ.get("HOME", "/tmp")}


def test_nothing_is_needed_that_a_bare_cluster_lacks(local: Manifests) -> None:
    kinds = {document["kind"] for document in local.documents}
    assert not kinds & {"Ingress", "StorageClass"}
    assert all(service["spec"].get("type", "ClusterIP") == "ClusterIP" for service in local.of("Service"))
    # A claim is bound by name to a volume that is there: nothing has to make one.
    for claim in local.of("PersistentVolumeClaim"):
        volume = local.one("PersistentVolume", claim["spec"]["volumeName"])
        assert claim["spec"]["storageClassName"] == volume["spec"]["storageClassName"] == ""
        assert set(claim["spec"]["accessModes"]) <= set(volume["spec"]["accessModes"])
        assert byte_count(claim["spec"]["resources"]["requests"]["storage"]) <= byte_count(
            volume["spec"]["capacity"]["storage"]
        )


# --- Images -----------------------------------------------------------------------------------------------------------


def test_the_images_are_those_of_compose(combinations: dict[str, Manifests]) -> None:
    for manifests in (combinations["local with github-stand-in"], combinations["production"]):
        for workload in manifests.workloads:
            container = container_of(workload)
            name, _, tag = container["image"].partition(":")
            assert name in compose_images() or container["image"] in compose_images()
            assert tag, "an image without a tag changes by itself"
            # Taken from the node where it is: a laptop's cluster has no registry.
            assert container["imagePullPolicy"] == "IfNotPresent"
    images = {
        container_of(one)["image"].partition(":")[0] for one in combinations["local with github-stand-in"].workloads
    }
    # Prometheus, Alertmanager and Grafana a cluster has already, with their operators.
    watching = {"prom/prometheus", "prom/alertmanager", "grafana/grafana"}
    assert images == compose_images_without_tags() - watching, (
        "compose has an image that is not here, or the other way round"
    )


def test_the_local_house_takes_the_images_that_compose_builds_by_default(local: Manifests) -> None:
    own = [container_of(one)["image"] for one in local.workloads if container_of(one)["image"].startswith("taskhouse/")]
    assert {image.partition(":")[2] for image in own} == {"latest"}


def test_every_image_of_production_has_a_version(production: Manifests) -> None:
    for workload in production.workloads:
        assert not container_of(workload)["image"].endswith(":latest"), name_of(workload)


def compose_images() -> set[str]:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    found: set[str] = set()
    for path in (ROOT / "compose").glob("*.yaml"):
        services: dict[str, Any] = yaml.load(path.read_text(), Loader).get("services", {})
        found |= {one["image"] for one in services.values() if "image" in one}
    return {image.replace(":${TAG:-latest}", "") for image in found}


def compose_images_without_tags() -> set[str]:
    return {image.partition(":")[0] for image in compose_images()}
