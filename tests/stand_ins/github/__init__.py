"""A server that answers GitHub's repository search, with faults on demand."""

from tests.stand_ins.github.dataset import (
    Repository,
    default_repositories,
    made_up_repositories,
    read_csv,
    repository,
)
from tests.stand_ins.github.faults import FaultError
from tests.stand_ins.github.record import RequestRecord
from tests.stand_ins.github.server import GitHubStandIn

__all__ = [
    "FaultError",
    "GitHubStandIn",
    "Repository",
    "RequestRecord",
    "default_repositories",
    "made_up_repositories",
    "read_csv",
    "repository",
]
