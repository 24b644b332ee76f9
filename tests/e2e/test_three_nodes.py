"""The cluster of compose/cluster.yaml with compose/tls.yaml: it holds every queue three times, any node may go, and
nobody gets in, or is taken for a server, without the authority's word."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from shared.render.definitions import definitions
from shared.topology import BROKER_NODES
from tests.e2e.houses import ROOT, ComposeHouse
from tests.e2e.test_cluster import until

pytestmark = pytest.mark.containers

ALL = {f"rabbit@{node}" for node in BROKER_NODES}
#: Adds numbers, each time it is given one, and says the sum.
ADDING = """
import sys
from shared.app import app
from shared.signatures import calculator
for line in sys.stdin:
    print(calculator.add(int(line), 1).apply_async().get(timeout=60), flush=True)
"""


class Adder:
    """A publisher that lives through what happens to the nodes."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def add(self, number: int) -> int:
        """One task, from the publish to its result."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(number, file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())


@contextmanager
def adding(house: ComposeHouse) -> Iterator[Adder]:
    command = ("docker", "compose", "run", "--rm", "-T", "--no-deps", "--entrypoint", "python", "cli", "-c", ADDING)
    with subprocess.Popen(
        command, cwd=ROOT, env=house.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Adder(process)
        assert process.stdin is not None
        process.stdin.close()


def ask(house: ComposeHouse, node: str, *command: str) -> list[list[str]]:
    """What `rabbitmqctl` says on a node: rows of cells. A node that is not ready says nothing."""
    done = house.compose("exec", "-T", node, "rabbitmqctl", "-q", *command)
    return [line.split("\t") for line in done.stdout.splitlines()[1:]] if done.returncode == 0 else []


def nodes_of(house: ComposeHouse, user: str, node: str) -> set[str]:
    """The nodes that `user` is connected to, as `node` knows them."""
    pids = [pid for name, pid in ask(house, node, "list_connections", "user", "pid") if name == user]
    return {one for one in BROKER_NODES for pid in pids if pid.startswith(f"<rabbit@{one}.")}


def whole(house: ComposeHouse) -> bool:
    """Whether every declared queue has each of its three members online."""
    declared = {queue["name"] for queue in definitions()["queues"]}
    rows = ask(house, BROKER_NODES[0], "list_queues", "name", "members", "online")
    there = {name for name, members, online in rows if _names(members) == _names(online) == ALL}
    return declared <= there


def _names(shown: str) -> set[str]:
    return set(shown.strip("[]").split(", "))


def test_up_returns_when_each_queue_has_three_members(three_nodes: ComposeHouse) -> None:
    # Given the cluster as `up --wait` left it
    # Then every queue of the definitions is on each of the three nodes: work, dead letters, delays
    assert whole(three_nodes)


def test_a_node_goes_and_comes_back_while_tasks_go_on(three_nodes: ComposeHouse) -> None:
    with adding(three_nodes) as adder:
        # Given a worker and a publisher, each at a node
        assert adder.add(1) == 2
        (node,) = nodes_of(three_nodes, "calculator", BROKER_NODES[0])
        others = [one for one in BROKER_NODES if one != node]
        try:
            # When the worker's node stops
            assert three_nodes.compose("stop", node).returncode == 0

            # Then tasks are done all the same, and the worker is at another node
            assert [adder.add(number) for number in range(10)] == list(range(1, 11))
            assert nodes_of(three_nodes, "calculator", others[0]) <= set(others)
            assert nodes_of(three_nodes, "calculator", others[0])
        finally:
            assert three_nodes.compose("start", node).returncode == 0

        # And when it comes back, it has its members of the queues again
        until("each queue has three members online", lambda: whole(three_nodes), 90)
        assert adder.add(41) == 42


def test_flower_asks_another_node_when_its_own_is_away(three_nodes: ComposeHouse) -> None:
    # Given Flower, whose page of queues comes from the management API
    user = ("admin", three_nodes.passwords()["flower"])
    address = f"http://127.0.0.1:{three_nodes.ports['FLOWER_PORT']}/broker"

    def shown() -> bool:
        return ">calculator<" in requests.get(address, auth=user, timeout=20).text.replace("\n", "").replace(" ", "")

    until("Flower shows the queue", shown)
    try:
        # When the node that it asks first stops
        assert three_nodes.compose("stop", BROKER_NODES[0]).returncode == 0

        # Then it shows the queues by another one
        until("Flower shows the queue", shown)
    finally:
        assert three_nodes.compose("up", "-d", "--wait", BROKER_NODES[0]).returncode == 0


def test_the_replica_has_what_redis_was_told(three_nodes: ComposeHouse) -> None:
    # Given a result
    script = (
        "from shared.app import app\n"
        "from shared.signatures import calculator\n"
        "answer = calculator.add(1, 2).apply_async()\n"
        "print(answer.get(timeout=30), answer.id)"
    )
    value, task = three_nodes.publisher(script).stdout.split()
    assert value == "3"

    # When somebody asks the replica
    read = f"from shared.app import app; print(app.AsyncResult('{task}').state)"
    replica = ("-e", "REDIS_URL=rediss://operator@redis-replica:6379/0", "--entrypoint", "python")
    run = ("run", "--rm", "-T", "--no-deps", *replica, "cli", "-c")

    # Then it knows, and takes no word of its own
    until("the replica has it", lambda: three_nodes.compose(*run, read).stdout.strip() == "SUCCESS")
    write = "from shared.app import app; app.backend.client.set('celery-task-meta-x', 1)"
    assert "ReadOnlyError" in three_nodes.compose(*run, write).stderr


#: Tries to get in, to the broker and to Redis, in several ways.
TRYING = """
import json, os, sys
from pathlib import Path
from shared import certificates
from shared.app import create_app
from shared.config import Settings

certificates.authority(Path("/tmp/other"))

def outcome(attempt):
    try:
        attempt()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "in"

def attempts(**changes):
    environ = {**os.environ, "BROKER_FAILOVER": "", **changes}
    app = create_app(settings=Settings.load(environ), current=False)
    return [outcome(app.connection_for_write(connect_timeout=5).connect), outcome(app.backend.client.ping)]

def at(broker, redis, s="s"):
    ports = {"s": 5671, "": 5672}
    return {
        "BROKER_URL": f"amqp{s}://operator@{broker}:{ports[s]}//",
        "REDIS_URL": f"redis{s}://operator@{redis}:6379/0",
        **({} if s else {"TLS_CA_FILE": ""}),
    }

project = sys.argv[1]
print(json.dumps({
    "as it is": attempts(),
    "other nodes": attempts(**at("rabbitmq-3", "redis-replica")),
    "without TLS": attempts(**at("rabbitmq", "redis", "")),
    "another authority": attempts(TLS_CA_FILE="/tmp/other/ca.pem"),
    "the machine's authorities": attempts(TLS_CA_FILE=""),
    "another name": attempts(**at(f"{project}-rabbitmq-1", f"{project}-redis-1")),
}))
"""


def test_nobody_gets_in_without_tls_and_no_stranger_is_taken_for_a_server(three_nodes: ComposeHouse) -> None:
    # When a client with the right password tries in several ways
    assert three_nodes.environ is not None
    run = ("run", "--rm", "-T", "--no-deps", "--entrypoint", "python", "cli", "-c", TRYING)
    done = three_nodes.compose(*run, three_nodes.environ["COMPOSE_PROJECT_NAME"])
    outcomes = json.loads(done.stdout)

    # Then it gets in by TLS, at each node, and in no other way
    assert outcomes.pop("as it is") == outcomes.pop("other nodes") == ["in", "in"]
    broker, redis = outcomes.pop("without TLS")
    assert "Connection refused" in broker and redis.startswith("ConnectionError")
    # And takes nobody for a server whom another has signed, or for another host
    name = outcomes.pop("another name")
    assert all("CERTIFICATE_VERIFY_FAILED" in each and "mismatch" in each for each in name), name
    for said in outcomes.values():
        assert all("CERTIFICATE_VERIFY_FAILED" in each for each in said), outcomes


def test_the_key_of_a_server_is_read_by_its_user_alone(three_nodes: ComposeHouse) -> None:
    for server, folder in (("rabbitmq", "/run/definitions"), ("redis", "/run/users"), ("redis-replica", "/run/users")):
        shown = three_nodes.compose("exec", "-T", server, "stat", "-c", "%a %u", f"{folder}/server.key").stdout
        assert shown.split() == ["400", "999"]


def test_the_management_api_speaks_tls_alone(three_nodes: ComposeHouse, tmp_path: Path) -> None:
    # Given the authority's certificate, which is no secret
    ca = tmp_path / "ca.pem"
    ca.write_text(three_nodes.compose("exec", "-T", "calculator", "cat", "/run/secrets/ca.pem").stdout)
    user = ("admin", three_nodes.passwords()["rabbitmq"])

    # Then a person reaches the API at the published port, and the one without TLS answers nobody
    port = three_nodes.ports["RABBITMQ_MANAGEMENT_TLS_PORT"]
    answer = requests.get(f"https://127.0.0.1:{port}/api/nodes", auth=user, verify=str(ca), timeout=20)
    assert {node["name"] for node in answer.json()} == ALL
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{three_nodes.ports['RABBITMQ_MANAGEMENT_PORT']}/api/nodes", timeout=20)
