"""The stage that each case is played on. CHAOS_FORM, CHAOS_SEED and CHAOS_ATTACH say how; see the README beside."""

import os
import random
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.record import Played, Record
from tests.chaos.theatre import Theatre
from tests.conftest import PORTS
from tests.e2e.houses import ComposeHouse
from tests.e2e.stand_in import StandIn

#: Of this run, unless CHAOS_SEED says another. A case's own chance follows from it and from its name.
SEED = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(10**6))
FORM = os.environ.get("CHAOS_FORM", "short")
RECORD = Record(seed=SEED, form=FORM)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was measured, and with which seed."""
    if RECORD.played:
        terminalreporter.section(f"chaos, {FORM} form, CHAOS_SEED={SEED}")
        terminalreporter.write_line(RECORD.as_text())


@pytest.fixture(scope="session")
def record() -> Record:
    """What this run measured."""
    return RECORD


@pytest.fixture(scope="module")
def theatre(request: pytest.FixtureRequest) -> Iterator[Theatre]:
    """The tests' cluster, or with CHAOS_ATTACH the one that the environment names, with the ledger."""
    if os.environ.get("CHAOS_ATTACH"):
        ports = {name: int(os.environ[name]) for name in PORTS}
        house = ComposeHouse(StandIn(f"http://127.0.0.1:{ports['GITHUB_PORT']}"), Path("reports"), ports)
    else:
        house = request.getfixturevalue("cluster")
    with Theatre.opened(house) as theatre:
        yield theatre


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """A case's own, whatever was played before it."""
    return random.Random(f"{SEED}/{request.node.name}")


__all__ = ["Played"]
