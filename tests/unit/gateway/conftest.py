"""A gateway that is really served, alone or with a worker beside it."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from services.gateway.settings import GatewaySettings
from tests.e2e.stand_in import StandIn
from tests.serving import Serve, Site, serving, whole_house
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
def working(github: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway, and a worker in a process of its own."""
    with whole_house(tmp_path_factory.mktemp("house"), github.url) as url, Site(url) as site:
        yield site


@pytest.fixture
def house(working: Site, github: StandIn) -> Site:
    """The same, with a GitHub that does nothing wrong yet."""
    github.reset()
    return working


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the gateway logs; its logger does not hand on to the root's handlers."""
    logging.getLogger("services.gateway").addHandler(caplog.handler)
    yield caplog
    logging.getLogger("services.gateway").removeHandler(caplog.handler)
