"""What `kubectl kustomize` makes of k8s/, as values that a test can ask."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from shared import setup
from shared.render.kubernetes import GENERATED

ROOT = Path(__file__).parents[2]
Json = dict[str, Any]

#: What runs pods, and which field of it holds a pod.
WORKLOADS = ("Deployment", "StatefulSet")

#: An overlay, and components on top of it, for each combination that k8s/README.md promises.
COMBINATIONS: dict[str, tuple[str, ...]] = {
    "local": ("local",),
    "local-autoscaling": ("local-autoscaling",),
    "local with github-stand-in": ("local", "github-stand-in"),
    "local with autoscaling": ("local", "autoscaling"),
    "local with hpa-cpu": ("local", "hpa-cpu"),
    "local with autoscaling, hpa-cpu": ("local", "autoscaling", "hpa-cpu"),
    "local with network-policies": ("local", "network-policies"),
    "local with disruption-budgets": ("local", "disruption-budgets"),
    "local with monitoring": ("local", "monitoring"),
    "local with all of these": (
        "local",
        "github-stand-in",
        "autoscaling",
        "hpa-cpu",
        "network-policies",
        "disruption-budgets",
        "monitoring",
    ),
    "production": ("production",),
    "production with hpa-cpu": ("production", "hpa-cpu"),
}


@dataclass(frozen=True)
class Manifests:
    """The documents of one combination.

    Attributes:
        name: of the combination.
        documents: as rendered, in order.
    """

    name: str
    documents: list[Json] = field(repr=False)

    def of(self, *kinds: str) -> list[Json]:
        """Those of these kinds."""
        return [document for document in self.documents if document["kind"] in kinds]

    def one(self, kind: str, name: str) -> Json:
        """The one of that name; an end in a hash does not count."""
        found = [document for document in self.of(kind) if name in (base_name(document), name_of(document))]
        assert len(found) == 1, f"{self.name}: {len(found)} of {kind} {name}"
        return found[0]

    @cached_property
    def workloads(self) -> list[Json]:
        """Deployments and StatefulSets."""
        return self.of(*WORKLOADS)


def pod_of(workload: Json) -> Json:
    """The pod's spec."""
    return workload["spec"]["template"]["spec"]


def volumes_of(workload: Json) -> dict[str, Json]:
    """The pod's volumes, by their names."""
    return {volume["name"]: volume for volume in pod_of(workload)["volumes"]}


def has_an_app(workload: Json) -> bool:
    """Whether an app of ours runs in it, which speaks to broker and Redis."""
    return labels_of(workload)["app.kubernetes.io/component"] in ("worker", "publisher", "operator")


def labels_of(workload: Json) -> dict[str, str]:
    """The pod's labels."""
    return workload["spec"]["template"]["metadata"]["labels"]


def container_of(workload: Json) -> Json:
    """The one container."""
    containers = pod_of(workload)["containers"]
    assert len(containers) == 1
    return containers[0]


def environment(manifests: Manifests, workload: Json) -> dict[str, str]:
    """What the process would find, as Kubernetes puts it together."""
    config = {name_of(one): one["data"] for one in manifests.of("ConfigMap")}
    found: dict[str, str] = {}
    for source in container_of(workload).get("envFrom", []):
        found |= config[source["configMapRef"]["name"]]
    for variable in container_of(workload).get("env", []):
        if "valueFrom" in variable:
            reference = variable["valueFrom"]["configMapKeyRef"]
            found[variable["name"]] = config[reference["name"]][reference["key"]]
        else:
            # `$(NAME)` is what stands in a variable that was given before.
            found[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], variable["value"])
    return found


def name_of(document: Json) -> str:
    """Its name, as the cluster knows it."""
    return document["metadata"]["name"]


def base_name(document: Json) -> str:
    """Its name without the hash that a generator adds."""
    hashed = document["kind"] in ("ConfigMap", "Secret")
    return re.sub(r"-[a-z0-9]{10}$", "", name_of(document)) if hashed else name_of(document)


def selects(selector: Json, labels: dict[str, str]) -> bool:
    """Whether a label selector takes these labels. An empty one takes all."""
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def requests_of(container: Json) -> tuple[float, int]:
    """Cores and bytes that a container asks for."""
    return cores(container["resources"]["requests"]["cpu"]), byte_count(container["resources"]["requests"]["memory"])


def cores(quantity: str) -> float:
    """`100m`, or `2`."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def byte_count(quantity: str) -> int:
    """`64Mi`, or `1Gi`."""
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    return int(quantity[:-2]) * units[quantity[-2:]]


class Tree:
    """A copy of what kustomize reads, with passwords of its own: the user's are neither read nor needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "k8s", folder / "k8s", ignore=shutil.ignore_patterns(GENERATED))
        shutil.copytree(ROOT / "compose" / "rabbitmq", folder / "compose" / "rabbitmq")
        self.secrets = folder / "k8s" / "secrets" / GENERATED

    def make_secrets(self) -> None:
        """As `make k8s-secrets`."""
        setup.prepare(self.secrets)

    def build(self, name: str, images: dict[str, str] | None = None) -> Manifests:
        """One of the combinations, rendered."""
        overlay, *components = COMBINATIONS[name]
        folder = self.folder / "k8s" / "overlays" / f"test-{overlay}-{'-'.join(components)}"
        folder.mkdir(exist_ok=True)
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "taskhouse",
            "resources": [f"../{overlay}"],
            "components": [f"../../components/{component}" for component in components],
            "images": [{"name": image, "newTag": tag} for image, tag in (images or {}).items()],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return Manifests(name, list(render(folder)))


def render(folder: Path) -> Iterator[Json]:
    """What `kubectl kustomize` prints for a folder."""
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    yield from yaml.load_all(done.stdout, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
