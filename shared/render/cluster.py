"""The compose file that makes three of RabbitMQ and two of Redis, and the configuration by which the three find each
other."""

from collections.abc import Iterable
from typing import Any

import yaml

from shared.render.permissions import BEAT, FLOWER, OPERATOR
from shared.spec import ServiceSpec
from shared.topology import BROKER_NODES, PUBLISHERS, QUEUE_MEMBERS, REDIS_NODES, SERVICES

#: What a user names who wants the replica to become the primary: it is given to all who must know.
PRIMARY = f"${{REDIS_PRIMARY:-{REDIS_NODES[0]}}}"

_CONFIGURATION = """\
# Each node looks for the others at its first start, and joins those that are a cluster already.
cluster_name = taskhouse
cluster_formation.peer_discovery_backend = classic_config
{nodes}

# With Mnesia, the store of RabbitMQ 4.0, a node that sees no majority stops until it does. With Khepri, which needs a
# majority by itself, this says nothing.
cluster_partition_handling = pause_minority

# A queue that has too few members, because it was made while a node was away, gets one as soon as a node comes.
quorum_queue.continuous_membership_reconciliation.enabled = true
quorum_queue.continuous_membership_reconciliation.target_group_size = {members}
# Milliseconds: after a node has come, and else.
quorum_queue.continuous_membership_reconciliation.trigger_interval = 2000
quorum_queue.continuous_membership_reconciliation.interval = 60000

# New queues are led by the node that leads the fewest.
queue_leader_locator = balanced
"""


def clients(services: Iterable[ServiceSpec] = SERVICES) -> dict[str, str]:
    """Each container that speaks to the servers, and its user on them."""
    names = [*(spec.name for spec in services), *(spec.name for spec in PUBLISHERS), BEAT, FLOWER]
    return {name: name for name in names} | {"cli": OPERATOR}


def configuration() -> str:
    """RabbitMQ's, of each node."""
    nodes = "\n".join(
        f"cluster_formation.classic_config.nodes.{number} = rabbit@{node}"
        for number, node in enumerate(BROKER_NODES, start=1)
    )
    return _CONFIGURATION.format(nodes=nodes, members=QUEUE_MEMBERS)


def render(services: Iterable[ServiceSpec] = SERVICES) -> str:
    """The extra compose file."""
    first, *others = BROKER_NODES
    _, replica = REDIS_NODES
    document = {
        "services": {
            "setup": {
                "environment": {**_members(), "REDIS_PRIMARY": PRIMARY},
                "volumes": [f"secrets-{replica}:/secrets/{replica}"],
            },
            first: {"extends": _server("member"), "environment": _members()},
            **{node: _node(node, number) for number, node in enumerate(others, start=2)},
            REDIS_NODES[0]: {"environment": {"REDIS_PRIMARY": PRIMARY}},
            replica: {
                "extends": _server("redis"),
                "environment": {"REDIS_PRIMARY": PRIMARY},
                "volumes": [f"secrets-{replica}:/run/users:ro", f"{replica}-data:/data"],
            },
            **{
                name: {
                    "environment": {
                        "BROKER_FAILOVER": ",".join(others),
                        "REDIS_URL": f"redis://{user}@{PRIMARY}:6379/0",
                    }
                }
                for name, user in clients(services).items()
            },
        },
        "volumes": {
            **{f"{node}-data": {} for node in others},
            f"{replica}-data": {},
            f"secrets-{replica}": {},
        },
    }
    return yaml.safe_dump(document, sort_keys=False, width=120)


def _server(service: str) -> dict[str, str]:
    # Compose takes the paths of an extra file as those of the first one, which stands above.
    return {"file": "compose/servers.yaml", "service": service}


def _members() -> dict[str, str]:
    return {"BROKER_NODES": ",".join(BROKER_NODES)}


def _node(name: str, number: int) -> dict[str, Any]:
    return {
        "extends": _server("rabbitmq-member"),
        "hostname": name,
        "environment": _members(),
        "ports": [
            _port(f"RABBITMQ_{number}_PORT", 5671 + number, 5672),
            _port(f"RABBITMQ_{number}_MANAGEMENT_PORT", 15671 + number, 15672),
        ],
        "volumes": [f"{name}-data:/var/lib/rabbitmq"],
    }


def _port(variable: str, default: int, inside: int) -> str:
    return f"${{BIND_ADDRESS:-127.0.0.1}}:${{{variable}:-{default}}}:{inside}"
