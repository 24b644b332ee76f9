"""The rendered files, where they stand, and whether they still say what the topology says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from shared import contract
from shared.render import (
    alerts,
    broker,
    cluster,
    compose,
    definitions,
    kubernetes,
    kubernetes_options,
    prometheus,
    redis_broker,
    requirements,
    tls,
)
from shared.render.dashboards import broker as broker_dashboard
from shared.render.dashboards import overview
from shared.render.dashboards import service as service_dashboard
from shared.render.kubernetes import kubernetes_name
from shared.topology import SERVICES

#: Tags of images: as `docker compose build` gives it, and of the release that this tree becomes.
LATEST, RELEASE = "latest", version("taskhouse")
#: The first line of a file whose form has comments. JSON has none: there the folder's README says it.
HEADER = "# Generated from shared/topology.py by `celery -A shared.app topology render`; changes here are lost.\n"


@dataclass(frozen=True)
class RenderedFile:
    """A committed file that follows from the topology.

    Attributes:
        path: from the root of the repository.
        render: gives its content.
    """

    path: Path
    render: Callable[[], str]

    def content(self) -> str:
        """What should stand in the file."""
        return (HEADER if self.path.suffix != ".json" else "") + self.render()


def _kubernetes() -> Iterator[RenderedFile]:
    root = Path("k8s")
    yield RenderedFile(root / "base" / "settings.env", kubernetes.settings)
    yield RenderedFile(root / "services" / "kustomization.yaml", kubernetes.services_kustomization)
    for spec in SERVICES:
        name = kubernetes_name(spec.name)
        folder = root / "services" / name
        yield RenderedFile(folder / "kustomization.yaml", partial(kubernetes.service_kustomization, spec))
        yield RenderedFile(folder / f"{name}.yaml", partial(kubernetes.service, spec))
    yield RenderedFile(root / "secrets" / "kustomization.yaml", kubernetes.secrets_kustomization)
    for overlay, tag in (("local", LATEST), ("production", RELEASE)):
        folder = root / "overlays" / overlay / "images"
        yield RenderedFile(folder / "kustomization.yaml", partial(kubernetes.images, tag))
    components = root / "components"
    yield RenderedFile(components / "autoscaling" / "scaled-objects.yaml", kubernetes_options.scaled_objects)
    yield RenderedFile(components / "disruption-budgets" / "workers.yaml", kubernetes_options.disruption_budgets)
    yield RenderedFile(components / "monitoring" / "rules.yaml", kubernetes_options.prometheus_rule)
    yield RenderedFile(components / "network-policies" / "workers.yaml", kubernetes_options.network_policies)
    yield RenderedFile(components / "external-secrets" / "secrets.yaml", kubernetes_options.external_secrets)


def _alerts() -> Iterator[RenderedFile]:
    for name, found in alerts.groups().items():
        path = Path("compose") / "prometheus" / "rules" / f"{name}.yml"
        yield RenderedFile(path, partial(alerts.rule_file, name, found))


def _dashboards() -> Iterator[RenderedFile]:
    folder = Path("compose/grafana/dashboards")
    yield RenderedFile(folder / "overview.json", overview.render)
    yield RenderedFile(folder / "broker.json", broker_dashboard.render)
    for spec in SERVICES:
        yield RenderedFile(folder / f"service-{spec.name}.json", partial(service_dashboard.render, spec))


FILES = (
    RenderedFile(Path("compose/workers.yaml"), compose.render),
    RenderedFile(Path("compose/topology.env"), compose.stamp),
    RenderedFile(Path("compose/redis-broker.yaml"), redis_broker.render),
    RenderedFile(Path("compose/cluster.yaml"), cluster.render),
    RenderedFile(Path("compose/tls.yaml"), tls.render),
    RenderedFile(Path("compose/prometheus/prometheus.yml"), prometheus.render),
    *_alerts(),
    RenderedFile(Path("compose/rabbitmq/cluster.conf"), cluster.configuration),
    RenderedFile(Path("compose/rabbitmq/definitions.json"), definitions.render),
    RenderedFile(Path("compose/rabbitmq/taskhouse.conf"), broker.render),
    RenderedFile(Path("requirements/services.in"), requirements.services),
    RenderedFile(Path("shared/signatures/contract.json"), contract.render),
    *_dashboards(),
    *_kubernetes(),
)


def outdated(root: Path) -> list[Path]:
    """The rendered files below `root` that are missing, or differ from what the topology says."""
    return [
        file.path
        for file in FILES
        if not (root / file.path).is_file() or (root / file.path).read_text() != file.content()
    ]


def write(root: Path) -> list[Path]:
    """Write what is outdated below `root`; gives the paths written."""
    changed = outdated(root)
    for file in FILES:
        if file.path in changed:
            (root / file.path).parent.mkdir(parents=True, exist_ok=True)
            (root / file.path).write_text(file.content())
    return changed
