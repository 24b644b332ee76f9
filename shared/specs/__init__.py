"""One file a service: what it consumes, how wide, how long, and whom it may call. Whoever adds a file adds a service.

`make new-service` and `make remove-service` do it, with all that follows from it.
"""

import importlib
import pkgutil

from shared.errors import TopologyError
from shared.spec import ServiceSpec


def every() -> tuple[ServiceSpec, ...]:
    """What is written of each service, by the names of the files.

    Raises:
        TopologyError: a file of this folder has no `SPEC`, or one of another name.
    """
    return tuple(_read(module.name) for module in sorted(pkgutil.iter_modules(__path__), key=lambda each: each.name))


def _read(name: str) -> ServiceSpec:
    spec = getattr(importlib.import_module(f"{__name__}.{name}"), "SPEC", None)
    if not isinstance(spec, ServiceSpec) or spec.name != name:
        raise TopologyError(f"shared/specs/{name}.py: it must say SPEC = ServiceSpec(name={name!r}, ...)")
    return spec
