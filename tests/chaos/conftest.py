"""The stage that each case is played on. CHAOS_FORM, CHAOS_SEED and CHAOS_ATTACH say how; see the README beside."""

import os
import random
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.cases import CASES, NODES
from tests.chaos.record import Record
from tests.chaos.theatre import Theatre
from tests.conftest import PORTS, needs_docker
from tests.e2e.houses import ComposeHouse
from tests.e2e.stand_in import StandIn
from tests.ports import free_ports

#: Of three nodes; the other ports of the compose files belong to what is not started.
NODE_PORTS = tuple(f"RABBITMQ{node}_{what}" for node in ("", "_2", "_3") for what in ("PORT", "MANAGEMENT_PORT"))
#: What the cases of three nodes need of the compose files.
SERVERS = ("rabbitmq", "rabbitmq-2", "rabbitmq-3", "redis")
IMAGES = ("cli", "calculator")
#: Of this run, unless CHAOS_SEED says another. A case's own chance follows from it and from its name.
SEED = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(10**6))
#: `short` or `long`, of every case; empty plays what `make test` does.
ASKED = os.environ.get("CHAOS_FORM", "")
FORM = ASKED or "short"
#: A cluster of three nodes takes a minute to start, and `make test` starts one elsewhere.
collect_ignore = [] if ASKED else ["test_nodes.py"]
#: Whether the fast lane is on for every task: `make chaos LANE=1`.
LANE = bool(os.environ.get("CHAOS_LANE"))
RECORD = Record(seed=SEED, form=FORM)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was measured, and with which seed."""
    if RECORD.played:
        title, text = _told()
        terminalreporter.section(title)
        terminalreporter.write_line(text)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several processes leaves it to the one that started it."""
    if RECORD.played and hasattr(session.config, "workeroutput"):
        session.config.workeroutput.setdefault("said", []).append(_told())


def _told() -> tuple[str, str]:
    lane = ", everything in the fast lane" if LANE else ""
    left_out = [f"not played: {case.name}: {case.processes}" for case in (*CASES, *NODES) if LANE and case.processes]
    return f"chaos, {FORM} form, CHAOS_SEED={SEED}{lane}", "\n".join([RECORD.as_text(), *left_out])


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


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    """A cluster of its own, as small as its cases allow, with compose/cluster.yaml."""
    needs_docker()
    ports = dict(zip(NODE_PORTS, free_ports(len(NODE_PORTS)), strict=True))
    environ = {
        "COMPOSE_FILE": "compose.yaml:compose/cluster.yaml",
        "COMPOSE_PROFILES": "",
        "COMPOSE_PROJECT_NAME": f"taskhouse-nodes-{os.getpid()}",
        "TAG": os.environ.get("TEST_TAG", "test"),
        "REPORTS_DIR": str(tmp_path_factory.mktemp("reports")),
        **{name: str(port) for name, port in ports.items()},
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        house = ComposeHouse(StandIn(""), Path(environ["REPORTS_DIR"]), ports)
        try:
            for command in (("build", "--quiet", *IMAGES), ("up", "-d", "--wait", *SERVERS)):
                done = house.compose("--profile", "tools", *command, timeout=600)
                assert done.returncode == 0, done.stderr
            with Theatre.opened(house) as theatre:
                yield theatre
        finally:
            house.compose("--profile", "*", "down", "--volumes", "--remove-orphans")


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """A case's own, whatever was played before it."""
    return random.Random(f"{SEED}/{request.node.name}")
