"""The houses that e2e and browser tests share, each started once a session, and clean of faults before each test."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from testcontainers.compose import DockerCompose
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from shared import setup
from shared.topology import BROKER_NODES, REDIS_NODES
from tests.e2e.houses import GITHUB_TOKEN, ROOT, ComposeHouse, EmbeddedHouse, House
from tests.e2e.stand_in import StandIn
from tests.missing import missing
from tests.ports import free_ports
from tests.servers import OwnBroker, OwnRedis
from tests.stand_ins.github import GitHubStandIn
from tests.stand_ins.github.dataset import find_ranking

#: Played before all others: they say soonest what is wrong; and some fork, which is slow in a process that has grown.
FIRST: tuple[str, ...] = ("unit", "contract")
if "PYTEST_XDIST_WORKER" in os.environ:
    # One process begins with the cluster, and the other with the quick ones. Chromium breaks off what it asks for when
    # an interface of the machine comes or goes, as they do with containers: the quick ones start none.
    FIRST = ("browser", "e2e", *FIRST, "chaos")
#: Folders whose tests share a cluster, so that one process plays all of them, where there are several.
TOGETHER = {"e2e": "cluster", "browser": "cluster", "chaos": "chaos"}
#: Titles and texts that other processes left for the end.
SAID: list[tuple[str, str]] = []
#: The variables of the compose files that name a published port.
PORTS = (
    *("RABBITMQ_PORT", "RABBITMQ_MANAGEMENT_PORT", "FLOWER_PORT", "GATEWAY_PORT", "GITHUB_PORT", "MAIL_PORT"),
    *("PROMETHEUS_PORT", "ALERTMANAGER_PORT", "GRAFANA_PORT"),
)
#: Those that compose/cluster.yaml and compose/tls.yaml add.
MORE_PORTS = (
    *(f"RABBITMQ_{number}_{kind}PORT" for number in (2, 3) for kind in ("", "MANAGEMENT_")),
    "RABBITMQ_TLS_PORT",
    "RABBITMQ_MANAGEMENT_TLS_PORT",
)
#: How often the tests' own broker counts its queues, and the messages in them: milliseconds.
COUNTS = "-rabbit collect_statistics_interval 500 -rabbit quorum_tick_interval 500"
#: Who speaks to the servers in that cluster: a worker, and Flower.
CLIENTS = ("calculator", "flower")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put those first that are to be."""
    here = Path(__file__).parent
    turns = {folder: turn for turn, folder in enumerate(FIRST)}
    items.sort(key=lambda item: turns.get(item.path.relative_to(here).parts[0], len(turns)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes play, one of them plays all of a file, or of what shares a cluster."""
    # Its own way to say so, the mark `xdist_group`, is passed over since pytest 9.2.
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return TOGETHER.get(Path(file).parts[1], file)

    return Together(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Keep what one of several processes has to say at the end."""
    SAID.extend(getattr(node, "workeroutput", {}).get("said", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it."""
    for title, text in SAID:
        terminalreporter.section(title)
        terminalreporter.write_line(text)


def _why_no_docker() -> str | None:
    if shutil.which("docker") is None:
        return "the docker command is not installed"
    for needed in (["docker", "info"], ["docker", "compose", "version"]):
        if subprocess.run(needed, capture_output=True, check=False).returncode != 0:
            return f"`{' '.join(needed)}` fails"
    return None


def needs_docker() -> None:
    """Skip without a usable Docker, or fail where CI=true."""
    reason = _why_no_docker()
    if reason is not None:
        missing(f"container tests need Docker: {reason}")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeHouse]:
    """The shipped compose file under a name, ports and volumes of its own, with the stand-in for GitHub."""
    needs_docker()
    reports = tmp_path_factory.mktemp("reports")
    token = tmp_path_factory.mktemp("secrets") / "token"
    token.write_text(GITHUB_TOKEN)
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    files = ["compose.yaml"]
    data = find_ranking()
    if data is not None:
        files.append("tests/e2e/real-data.yaml")
    environ = {
        # So that any `docker compose`, and make, means this project.
        "COMPOSE_FILE": ":".join(files),
        "COMPOSE_PROFILES": "offline",
        "COMPOSE_PROJECT_NAME": f"taskhouse-test-{os.getpid()}",
        # Two checkouts may share one daemon, and each must run its own images.
        "TAG": os.environ.get("TEST_TAG", "test"),
        "REPORTS_DIR": str(reports),
        "GITHUB_API_URL": "http://github:8080",
        "GITHUB_DATA": str(data),
        "GITHUB_TOKEN_FILE": str(token),
        **{name: str(port) for name, port in ports.items()},
    }
    patch = pytest.MonkeyPatch()
    for name, value in environ.items():
        patch.setenv(name, value)
    compose = DockerCompose(ROOT, compose_file_name=files, build=True, profiles=["offline"])
    try:
        subprocess.run(["docker", "compose", "--profile", "tools", "build", "--quiet", "cli"], cwd=ROOT, check=True)
        with compose:
            yield ComposeHouse(StandIn(f"http://127.0.0.1:{ports['GITHUB_PORT']}"), reports, ports)
    finally:
        patch.undo()


@pytest.fixture(scope="session")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeHouse]:
    """The cluster of compose/cluster.yaml with compose/tls.yaml, and the calculator and Flower for clients."""
    needs_docker()
    reports = tmp_path_factory.mktemp("reports")
    ports = dict(zip((*PORTS, *MORE_PORTS), free_ports(len(PORTS) + len(MORE_PORTS)), strict=True))
    environ = {
        **os.environ,
        "COMPOSE_FILE": "compose.yaml:compose/cluster.yaml:compose/tls.yaml",
        "COMPOSE_PROFILES": "",
        "COMPOSE_PROJECT_NAME": f"taskhouse-three-{os.getpid()}",
        "TAG": os.environ.get("TEST_TAG", "test"),
        "REPORTS_DIR": str(reports),
        **{name: str(port) for name, port in ports.items()},
    }
    house = ComposeHouse(StandIn("http://127.0.0.1:1"), reports, ports, environ)
    try:
        done = house.compose("up", "-d", "--wait", "--build", *BROKER_NODES, *REDIS_NODES, *CLIENTS, timeout=600)
        assert done.returncode == 0, done.stderr
        assert house.compose("--profile", "tools", "build", "--quiet", "cli", timeout=600).returncode == 0
        yield house
    finally:
        house.compose("--profile", "*", "down", "--volumes", "--timeout", "5")


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedHouse]:
    """This machine alone, with the stand-in for GitHub."""
    with GitHubStandIn() as github:
        yield EmbeddedHouse(StandIn(github.url), tmp_path_factory.mktemp("house"))


@pytest.fixture(params=["embedded", pytest.param("cluster", marks=pytest.mark.containers)])
def house(request: pytest.FixtureRequest) -> House:
    """Each scenario is played in both houses, with a GitHub that does nothing wrong yet."""
    chosen: House = request.getfixturevalue(request.param)
    chosen.github.reset()
    return chosen


@pytest.fixture
def compose(cluster: ComposeHouse) -> ComposeHouse:
    """The cluster, for what only it can show."""
    cluster.github.reset()
    return cluster


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    """Started once; a laptop without Redis skips what needs it."""
    if shutil.which("redis-server") is None:
        missing("redis-server is not installed: apt-get install redis-server")
    server = OwnRedis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis(redis_server: OwnRedis) -> OwnRedis:
    """An empty Redis."""
    redis_server.client.flushall()
    return redis_server


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBroker]:
    """Started once; a laptop without Docker skips what needs it."""
    needs_docker()
    secrets = tmp_path_factory.mktemp("secrets")
    setup.prepare(secrets, setup.House(tls=True))
    # As the house with TLS has it, and beside it the listener without. Whoever runs the tests is not the server's user.
    tls = secrets / "tls.conf"
    tls.write_text(
        "".join(
            line
            for line in (secrets / "rabbitmq" / "house.conf").read_text().splitlines(True)
            if line.startswith(("listeners.ssl", "ssl_options"))
        )
    )
    (secrets / "rabbitmq" / "server.key").chmod(0o444)
    # Its helper that removes what is left is an image more; the block below removes the container.
    testcontainers_config.ryuk_disabled = True
    container = DockerContainer("rabbitmq:4-management", user="999:999").with_exposed_ports(15672, 15692)
    # It is found there again when it was killed.
    for port, here in zip((5672, 5671), free_ports(2), strict=True):
        container.with_bind_ports(port, here)
    container.with_volume_mapping(str(secrets / "rabbitmq"), "/run/definitions")
    container.with_volume_mapping(str(tls), "/etc/rabbitmq/conf.d/60-tls.conf")
    container.with_volume_mapping(
        str(ROOT / "compose/rabbitmq/taskhouse.conf"), "/etc/rabbitmq/conf.d/50-taskhouse.conf"
    )
    container.with_volume_mapping(str(ROOT / "compose/rabbitmq/enabled_plugins"), "/etc/rabbitmq/enabled_plugins")
    # Of itself it counts each 5 s, and each test of a count waits for that.
    container.with_env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", COUNTS)
    with container:
        own = OwnBroker(container, secrets)
        own.wait()
        yield own
