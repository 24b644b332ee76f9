"""A GitHub stand-in for each test that asks for one, and a client to ask it with."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from typing import Any

import pytest
import requests

from tests.stand_ins.github import GitHubStandIn, repository


@pytest.fixture
def today() -> date:
    return date(2026, 3, 15)


@pytest.fixture
def serve(today: date) -> Iterator[Callable[..., GitHubStandIn]]:
    """Starts stand-ins, without limits and on a fixed day unless told otherwise."""
    with ExitStack() as running:

        def start(repositories: Any = None, **options: Any) -> GitHubStandIn:
            told = {"today": today, "rate_limits": False, **options}
            return running.enter_context(GitHubStandIn(repositories, **told))

        yield start


@pytest.fixture
def search() -> Iterator[Callable[..., requests.Response]]:
    """Asks a stand-in; `headers` are added to those of `requests`."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy between a test and its own machine

        def ask(github: GitHubStandIn, headers: Any = None, **query: Any) -> requests.Response:
            return session.get(f"{github.url}/search/repositories", params=query, headers=headers, timeout=5)

        yield ask


@pytest.fixture
def thirty_five(serve: Callable[..., GitHubStandIn]) -> GitHubStandIn:
    """35 repositories of today, with 35 down to 1 stars."""
    return serve(
        repository(f"owner/repo-{stars}", age=0, stars=stars, language="Go", description="a ☕, and more")
        for stars in range(1, 36)
    )
