"""The compose file that puts TLS between every client and every server."""

from collections.abc import Iterable
from typing import Any

import yaml

from shared.render.cluster import PRIMARY, clients
from shared.render.permissions import EXPORTER
from shared.spec import ServiceSpec
from shared.topology import BROKER_NODES, REDIS_NODES, SERVICES

#: The authority's certificate lies beside each owner's passwords.
CA_FILE = "/run/secrets/ca.pem"


def render(services: Iterable[ServiceSpec] = SERVICES) -> str:
    """The extra compose file. It names no node that a cluster adds: these load what the setup writes, too."""
    document: dict[str, Any] = {
        "services": {
            # A key belongs to its server's user: root gives it away, and may do nothing else.
            "setup": {
                "environment": {"TLS": "true"},
                "cap_add": ["CHOWN"],
                "volumes": ["tls-authority:/secrets/authority"],
            },
            BROKER_NODES[0]: {
                # It says nothing to the server; a container without it is another one.
                "environment": {"TLS": "true"},
                "ports": [_port("RABBITMQ_TLS_PORT", 5671), _port("RABBITMQ_MANAGEMENT_TLS_PORT", 15671)],
            },
            REDIS_NODES[0]: {"environment": {"TLS": "true"}},
            **{
                name: {
                    "environment": {
                        "BROKER_URL": f"amqps://{user}@{BROKER_NODES[0]}:5671//",
                        "REDIS_URL": f"rediss://{user}@{PRIMARY}:6379/0",
                        "TLS_CA_FILE": CA_FILE,
                    }
                }
                for name, user in clients(services).items()
            },
            EXPORTER: {
                "environment": {
                    "BROKER_API_URL": f"https://{EXPORTER}@{BROKER_NODES[0]}:15671",
                    "TLS_CA_FILE": CA_FILE,
                }
            },
        },
        # The authority's key. Lost with it: nothing; the next start makes another one, and every client needs it.
        "volumes": {"tls-authority": {}},
    }
    return yaml.safe_dump(document, sort_keys=False, width=120)


def _port(variable: str, inside: int) -> str:
    return f"${{BIND_ADDRESS:-127.0.0.1}}:${{{variable}:-{inside}}}:{inside}"
