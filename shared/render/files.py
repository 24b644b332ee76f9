"""The rendered files, where they stand, and whether they still say what the topology says."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shared.render import broker, cluster, compose, definitions, tls

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


FILES = (
    RenderedFile(Path("compose/workers.yaml"), compose.render),
    RenderedFile(Path("compose/cluster.yaml"), cluster.render),
    RenderedFile(Path("compose/tls.yaml"), tls.render),
    RenderedFile(Path("compose/rabbitmq/cluster.conf"), cluster.configuration),
    RenderedFile(Path("compose/rabbitmq/definitions.json"), definitions.render),
    RenderedFile(Path("compose/rabbitmq/taskhouse.conf"), broker.render),
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
