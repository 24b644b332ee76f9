"""The Kubernetes objects that follow from the topology: a Deployment for each pool, and its credentials.

What every pod has, whatever it runs, is written once, by hand, in k8s/base; here stands what differs.
"""

from collections.abc import Iterable
from typing import Any

import yaml

from shared.render.permissions import BEAT, EXPORTER, FLOWER, MONITOR
from shared.render.worker import worker_arguments
from shared.setup import OWNERS
from shared.spec import ServiceSpec
from shared.topology import PUBLISHERS, SERVICES

Json = dict[str, Any]

SYSTEM = "taskhouse"
#: The one container of a pod: patches of k8s/base find it by this name.
CONTAINER = "main"
#: Where `shared.setup` keeps the passwords. A name that says what to run when it is missing: kubectl shows it.
GENERATED = "generated-by-make-k8s-secrets"
#: Plays GitHub where there is none.
STAND_IN = "github-stand-in"
#: Where the secrets of the user appear, one file each.
USER_SECRETS = "/run/user-secrets"
#: A Deployment with this label reads, or writes, reports: what provides them finds it by that.
REPORTS_LABEL = f"{SYSTEM}/reports"
#: The resource that NVIDIA's device plugin offers.
GPU = "nvidia.com/gpu"
#: Read by the owner and the pod's own group (fsGroup).
SECRET_MODE = 0o440


def kubernetes_name(name: str) -> str:
    """A service's name as Kubernetes takes it: no underscores."""
    return name.replace("_", "-")


def labels(name: str, component: str) -> dict[str, str]:
    """What everything of one service is labelled with."""
    return {
        "app.kubernetes.io/name": kubernetes_name(name),
        "app.kubernetes.io/part-of": SYSTEM,
        "app.kubernetes.io/component": component,
    }


def selector(name: str) -> dict[str, str]:
    """The labels that find a service's pods. They cannot be changed once a Deployment is there."""
    return {key: value for key, value in labels(name, "").items() if value}


def credentials(name: str) -> str:
    """The Secret with an owner's passwords."""
    return f"{kubernetes_name(name)}-credentials"


def user_secrets(name: str) -> str:
    """The Secret with what the user gives a service."""
    return f"{kubernetes_name(name)}-user"


def service(spec: ServiceSpec) -> str:
    """The file of one service."""
    return dump(_service_account(spec), _deployment(spec))


def service_kustomization(spec: ServiceSpec) -> str:
    """What `kubectl apply -k k8s/services/<name>` would read; the base takes it in."""
    return dump(kustomization(resources=[f"{kubernetes_name(spec.name)}.yaml"]))


def services_kustomization(services: Iterable[ServiceSpec] = SERVICES) -> str:
    """Every service."""
    return dump(kustomization(resources=[kubernetes_name(spec.name) for spec in services]))


def images(tag: str, services: Iterable[ServiceSpec] = SERVICES) -> str:
    """The tag of every image of ours, as a component of an overlay."""
    names = (*(spec.name for spec in services), *(spec.name for spec in PUBLISHERS), BEAT, FLOWER, "cli", STAND_IN)
    return dump(kustomization("Component", images=[{"name": f"{SYSTEM}/{name}", "newTag": tag} for name in names]))


def settings(services: Iterable[ServiceSpec] = SERVICES) -> str:
    """What the user can tell the services, all of it left out. An empty variable counts as absent."""
    services = tuple(services)
    names = dict.fromkeys(name for spec in services for name in spec.settings)
    files = dict.fromkeys(f"{name}_FILE" for spec in services for name in spec.secrets)
    return "".join(f"{name}=\n" for name in (*names, *files))


def secrets_kustomization() -> str:
    """A Secret for each owner, and one for each server, from the files that `shared.setup` writes."""
    own = [
        {
            "name": credentials(name),
            "files": [f"{GENERATED}/{name}/{file}" for file in credential_files(name)],
        }
        for name in OWNERS
    ]
    return dump(
        kustomization(
            secretGenerator=[
                *own,
                {"name": credentials(EXPORTER), "files": [f"{GENERATED}/{EXPORTER}/broker_password"]},
                {"name": "rabbitmq-definitions", "files": [f"{GENERATED}/rabbitmq/definitions.json"]},
                {"name": "redis-users", "files": [f"{GENERATED}/redis/redis.conf"]},
                {
                    "name": "rabbitmq-monitor",
                    "files": [f"password={GENERATED}/{FLOWER}/monitor_password"],
                    "literals": [f"username={MONITOR}"],
                },
            ]
        )
    )


def credential_files(name: str) -> tuple[str, ...]:
    """The files of an owner's Secret."""
    own = ("flowerconfig.py",) if name == FLOWER else ()
    return ("broker_password", "redis_password", *own)


def kustomization(kind: str = "Kustomization", **fields: Any) -> Json:
    """A kustomization.yaml."""
    version = "kustomize.config.k8s.io/v1" + ("alpha1" if kind == "Component" else "beta1")
    return {"apiVersion": version, "kind": kind, **fields}


def dump(*documents: Json) -> str:
    """YAML, documents parted by `---`."""
    return yaml.safe_dump_all(documents, sort_keys=False, width=120, explicit_start=False)


def _service_account(spec: ServiceSpec) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": kubernetes_name(spec.name), "labels": labels(spec.name, "worker")},
        "automountServiceAccountToken": False,
    }


def _deployment(spec: ServiceSpec) -> Json:
    name = kubernetes_name(spec.name)
    own = labels(spec.name, "worker")
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": own | ({REPORTS_LABEL: spec.reports} if spec.reports else {})},
        "spec": {
            "replicas": spec.replicas,
            "selector": {"matchLabels": selector(spec.name)},
            "template": {
                "metadata": {"labels": own},
                "spec": {
                    "serviceAccountName": name,
                    "terminationGracePeriodSeconds": spec.grace,
                    "containers": [_container(spec)],
                    "volumes": _volumes(spec),
                },
            },
        },
    }


def _container(spec: ServiceSpec) -> Json:
    return {
        "name": CONTAINER,
        "image": f"{SYSTEM}/{spec.name}",
        "args": worker_arguments(spec),
        "env": [
            # Kubernetes puts in what stands in the ConfigMap `addresses`.
            {"name": "BROKER_URL", "value": f"$(BROKER_SCHEME)://{spec.name}@$(BROKER_ADDRESS)//"},
            {"name": "REDIS_URL", "value": f"$(REDIS_SCHEME)://{spec.name}@$(REDIS_ADDRESS)/0"},
            *(_setting(name) for name in spec.settings),
            *(_setting(f"{name}_FILE") for name in spec.secrets),
        ],
        "resources": {
            "requests": {"cpu": f"{spec.requests.cpu}m", "memory": _mebibytes(spec.requests.memory)},
            "limits": {"memory": _mebibytes(spec.memory)} | ({GPU: str(spec.gpus)} if spec.gpus else {}),
        },
        "volumeMounts": [
            {"name": "credentials", "mountPath": "/run/secrets", "readOnly": True},
            *([{"name": "user-secrets", "mountPath": USER_SECRETS, "readOnly": True}] if spec.secrets else []),
        ],
    }


def _setting(name: str) -> Json:
    return {"name": name, "valueFrom": {"configMapKeyRef": {"name": "settings", "key": name}}}


def _volumes(spec: ServiceSpec) -> list[Json]:
    volumes: list[Json] = [
        {"name": "credentials", "secret": {"secretName": credentials(spec.name), "defaultMode": SECRET_MODE}}
    ]
    if spec.secrets:
        # The user gives it, or does not: a setting says which file of it is read.
        given = {"secretName": user_secrets(spec.name), "defaultMode": SECRET_MODE, "optional": True}
        volumes.append({"name": "user-secrets", "secret": given})
    return volumes


def _mebibytes(count: int) -> str:
    return f"{count // 2**20}Mi"
