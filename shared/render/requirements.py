"""What the environment needs that runs every service."""

from collections.abc import Iterable

from shared.spec import ServiceSpec
from shared.topology import SERVICES


def services(services: Iterable[ServiceSpec] = SERVICES) -> str:
    """The needs of each service, in one file that others name."""
    return "".join(f"-r {spec.name}.in\n" for spec in services)
