"""The compose file of the workers."""

import hashlib
from collections.abc import Iterable
from typing import Any

import yaml

from shared.render import definitions, redis_users
from shared.render.worker import worker_arguments
from shared.spec import ServiceSpec
from shared.topology import SERVICES


def render(services: Iterable[ServiceSpec] = SERVICES) -> str:
    """Every worker, and a volume for the passwords of each."""
    services = tuple(services)
    document = {
        "services": {"setup": _setup(services)} | {spec.name: _worker(spec) for spec in services},
        "volumes": {f"secrets-{spec.name}": {} for spec in services},
    }
    return yaml.safe_dump(document, sort_keys=False, width=120)


def stamp(services: Iterable[ServiceSpec] = SERVICES) -> str:
    """A variable for the servers that changes with their users, rights and queues.

    They read these when they start; and compose starts a container anew when what it is made of has changed.
    """
    services = tuple(services)
    told = definitions.render(services) + repr(redis_users.users(services))
    return f"TOPOLOGY={hashlib.sha256(told.encode()).hexdigest()[:16]}\n"


def _worker(spec: ServiceSpec) -> dict[str, Any]:
    return {
        "extends": {"file": "defaults.yaml", "service": "worker"},
        "build": {"context": "..", "dockerfile": "services/Dockerfile", "args": _build(spec)},
        "image": f"taskhouse/{spec.name}:${{TAG:-latest}}",
        "command": [_chosen(spec, argument) for argument in worker_arguments(spec)],
        "environment": {
            "BROKER_URL": f"amqp://{spec.name}@rabbitmq:5672//",
            "REDIS_URL": f"redis://{spec.name}@redis:6379/0",
            **{name: f"${{{name}:-{spec.local.get(name, '')}}}" for name in spec.settings},
            # Set only where the user gave a file; without one the mount below is of an empty device.
            **{f"{name}_FILE": f"${{{name}_FILE:+{_mount(name)}}}" for name in spec.secrets},
        },
        "volumes": [
            f"secrets-{spec.name}:/run/secrets:ro",
            "reports:/reports",
            "task-logs:/task-logs",
            *(f"${{{name}_FILE:-/dev/null}}:{_mount(name)}:ro" for name in spec.secrets),
        ],
        "mem_limit": spec.memory,
        "stop_grace_period": f"{spec.grace}s",
        "scale": spec.replicas,
        **({"networks": ["core", "outside"]} if spec.egress else {}),
    }


def _build(spec: ServiceSpec) -> dict[str, str]:
    packages = {"SYSTEM_PACKAGES": " ".join(spec.system_packages)} if spec.system_packages else {}
    return {"SERVICE": spec.name, **packages}


def _chosen(spec: ServiceSpec, argument: str) -> str:
    # On the command line, because gevent must be known before anything else is imported.
    return f"--pool=${{{spec.name.upper()}_POOL:-{spec.pool}}}" if argument.startswith("--pool=") else argument


def _setup(services: Iterable[ServiceSpec]) -> dict[str, Any]:
    # The one container that sees every volume of passwords: it makes them.
    return {
        "extends": {"file": "setup.yaml", "service": "setup"},
        "volumes": [f"secrets-{spec.name}:/secrets/{spec.name}" for spec in services],
    }


def _mount(secret: str) -> str:
    return f"/run/user-secrets/{secret.lower()}"
