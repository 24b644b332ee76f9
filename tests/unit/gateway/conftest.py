"""A gateway that is really served, alone or with a worker beside it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from services.gateway.settings import GatewaySettings
from shared.embedded import worker
from shared.topology import service
from tests.e2e.stand_in import StandIn
from tests.serving import Serve, Site, serving
from tests.stand_ins.github import GitHubStandIn


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serves gateways, embedded below `tmp_path` unless the settings name a broker; nobody works there."""
    with ExitStack() as until_done:

        def start(**settings: Any) -> Site:
            return until_done.enter_context(serving(GatewaySettings(**{"local_dir": tmp_path / "local", **settings})))

        yield start


@pytest.fixture
def site(serve: Serve) -> Site:
    """A gateway without a worker: what is submitted stays so."""
    return serve()


@pytest.fixture(scope="session")
def github() -> Iterator[StandIn]:
    """The GitHub that the worker asks."""
    with GitHubStandIn() as started:
        yield StandIn(started.url)


@pytest.fixture(scope="session")
def whole_house(github: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway, and a worker in a process of its own."""
    settings = GatewaySettings(local_dir=tmp_path_factory.mktemp("house"), github_api_url=github.url)
    environ = {name: value for name, value in os.environ.items() if name not in ("BROKER_URL", "REDIS_URL")}
    environ["GITHUB_API_URL"] = github.url
    with worker.running(service("reporter"), settings, environ), serving(settings) as site:
        yield site


@pytest.fixture
def house(whole_house: Site, github: StandIn) -> Site:
    """The same, with a GitHub that does nothing wrong yet."""
    github.reset()
    return whole_house
