"""The compose file that makes Redis the broker, for a team that wants no RabbitMQ."""

from collections.abc import Iterable

from shared.redis_broker import DATABASE
from shared.render.cluster import clients
from shared.spec import ServiceSpec
from shared.topology import SERVICES

_HEAD = """\
# Redis as the broker; what that weakens stands in docs/choices.md:
#   COMPOSE_FILE=compose.yaml:compose/redis-broker.yaml docker compose up -d --wait
services:
  rabbitmq:
    # Of a profile that nobody chooses: it is not started.
    profiles: [rabbitmq]
  setup:
    # Redis' users may use queues.
    environment: {REDIS_BROKER: "true"}
  redis:
    # It says nothing to the server; a container without it is another one.
    environment: {REDIS_BROKER: "true"}
"""
_CLIENT = """\
  {container}:
    environment:
      BROKER_URL: redis://{user}@redis:6379/{database}
      BROKER_PASSWORD_FILE: /run/secrets/redis_password
      BROKER_VISIBILITY_TIMEOUT: ${{BROKER_VISIBILITY_TIMEOUT:-}}
    depends_on: !override
      redis: {{condition: service_healthy}}
"""


def render(services: Iterable[ServiceSpec] = SERVICES) -> str:
    """What differs from the other compose files."""
    return _HEAD + "".join(
        _CLIENT.format(container=container, user=user, database=DATABASE)
        for container, user in clients(services).items()
    )
