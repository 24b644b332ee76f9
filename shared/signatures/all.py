"""Tasks that every service has: a message to one of them reaches every service's queue."""

from shared.signatures.declaration import signature


@signature("all.ping")
def ping() -> None:
    """Say that a worker of this service takes messages; see `shared.everyone.ask`, which listens."""
