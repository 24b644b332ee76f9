"""The images that compose runs, run with the pods' own settings: user, root, rights, files, variables, probes."""

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from shared.render.kubernetes import kubernetes_name
from shared.topology import SERVICES
from tests.k8s.manifests import ROOT, Manifests, Tree, labels_of, pod_of
from tests.k8s.node import Node, Pod, checked
from tests.missing import missing

pytestmark = pytest.mark.containers

TAG = os.environ.get("TEST_TAG", "test")
#: Everything of ours has this tag here; two checkouts may share one engine.
IMAGES = (*(spec.name for spec in SERVICES), "gateway", "beat", "flower", "cli", "github-stand-in")
WORKERS = [kubernetes_name(spec.name) for spec in SERVICES]
PROBES = ("startup", "readiness", "liveness")


#: Publishes tasks that take a while, then waits for the result of each.
THOUSAND_TASKS = """
from shared.app import app
from shared.signatures import calculator
asked = [calculator.wait(0.1).delay() for _ in range(1000)]
print("published", flush=True)
assert [result.get(timeout=120) for result in asked] == [0.1] * 1000
"""


@pytest.fixture(scope="module")
def pods(node: Node) -> dict[str, Pod]:
    return node.pods


@pytest.fixture(scope="module")
def node(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """The local house, the services first: in a cluster too nothing says who starts when."""
    _need_docker()
    subprocess.run(
        ["docker", "compose", "--profile", "offline", "--profile", "tools", "build", "--quiet"],
        cwd=ROOT,
        env=os.environ | {"TAG": TAG},
        check=True,
    )
    manifests = tree.build("local with github-stand-in", {f"taskhouse/{name}": TAG for name in IMAGES})
    node = Node(manifests, tmp_path_factory.mktemp("node"), f"taskhouse-pods-{os.getpid()}")
    try:
        node.start(one for one in manifests.workloads if not _is_server(one))
        # They live without their servers, and say that they cannot work.
        for name in WORKERS:
            node.pods[name].wait("startup")
        early = {name: (node.pods[name].passes("liveness"), node.pods[name].passes("readiness")) for name in WORKERS}
        assert early == dict.fromkeys(WORKERS, (True, False))
        node.start(one for one in manifests.workloads if _is_server(one))
        yield node
    finally:
        node.stop()


def _is_server(workload: dict[str, Any]) -> bool:
    return labels_of(workload)["app.kubernetes.io/component"] == "server"


def _need_docker() -> None:
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        missing("running pods needs Docker")


def test_every_pod_passes_its_probes(pods: dict[str, Pod]) -> None:
    for pod in pods.values():
        for kind in PROBES:
            pod.wait(kind)
    # And none was started twice on the way.
    assert {name: pod.inspect()["RestartCount"] for name, pod in pods.items()} == dict.fromkeys(pods, 0)


def test_every_service_does_a_task(pods: dict[str, Pod]) -> None:
    # When a message is sent to every service through its queue
    done = pods["cli"].run("celery", "-A", "shared.app", "ping", "--timeout", "30")

    # Then each answers, from its own pod
    assert done.returncode == 0, done.stdout + done.stderr
    answered = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()}
    assert answered == {spec.name: f"{spec.name}@{kubernetes_name(spec.name)}-0" for spec in SERVICES}


def test_a_report_goes_from_one_pod_to_the_other(pods: dict[str, Pod]) -> None:
    # When somebody asks the gateway's pod for a report, which the reporter's pod writes
    gateway = f"http://127.0.0.1:{pods['gateway'].ports['http']}"
    asked = urllib.request.Request(
        f"{gateway}/reports", json.dumps({"period": "day"}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert answer.status == 202

    # Then the gateway has it from the volume that they share
    deadline = time.monotonic() + 90
    while not (listed := _json(f"{gateway}/reports")["reports"]):
        assert time.monotonic() < deadline, pods["reporter"].log()
        time.sleep(0.2)
    with urllib.request.urlopen(f"{gateway}/reports/{listed[0]['name']}", timeout=30) as file:
        assert b"," in file.readline()


def test_a_pool_that_is_rolled_during_a_thousand_tasks_loses_none(node: Node) -> None:
    # Given the new pod of a rollout, and a thousand tasks that both have begun with
    old = node.surge("calculator", "new")
    command = ["docker", "exec", node.pods["cli"].id, "python", "-c", THOUSAND_TASKS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as publisher:
        assert publisher.stdout is not None
        assert publisher.stdout.readline() == "published\n"

        # When the old one is told to end
        node.retire(old)
        assert publisher.poll() is None, "all was done before the pod ended: this has shown nothing"
        _, errors = publisher.communicate(timeout=150)
    assert old.inspect()["State"]["ExitCode"] == 0, old.log()

    # Then each has its result, and nothing became a dead letter
    assert publisher.returncode == 0, errors
    # The broker counts its queues now and then.
    deadline = time.monotonic() + 60
    while (counts := _messages(node.pods["rabbitmq"]))["calculator"]:
        assert time.monotonic() < deadline, counts
    assert counts["unrouted"] == 0
    # But for ticks of the schedule, which come each ten seconds and had expired behind the thousand.
    listed = node.pods["cli"].run("celery", "-A", "shared.app", "dlq", "list", "--format", "json").stdout
    assert all(letter["reason"] == "expired" for letter in json.loads(listed)), listed


def test_a_process_has_no_more_rights_than_its_manifest_gives(pods: dict[str, Pod]) -> None:
    for pod in pods.values():
        secured = pod_of(pod.workload)["securityContext"]
        lines = pod.run("cat", "/proc/1/status").stdout.splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert status["Uid"].split() == [str(secured["runAsUser"])] * 4, pod.name
        assert status["Gid"].split() == [str(secured["runAsGroup"])] * 4
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        assert pod.run("sh", "-c", ": > /written").returncode != 0


def test_the_broker_tells_keda_the_length_of_each_queue(
    pods: dict[str, Pod], combinations: dict[str, Manifests]
) -> None:
    made = combinations["local-autoscaling"]
    authentication = made.one("TriggerAuthentication", "rabbitmq-monitor")
    # Given the user that the cluster's Secret names, as it stands in the tree that these pods were made of
    (secret,) = {entry["name"] for entry in authentication["spec"]["secretTargetRef"]}
    data = made.one("Secret", secret)["data"]
    given = {
        entry["parameter"]: base64.b64decode(data[entry["key"]]).decode()
        for entry in authentication["spec"]["secretTargetRef"]
    }
    token = base64.b64encode(f"{given['username']}:{given['password']}".encode()).decode()
    for scaled in made.of("ScaledObject"):
        metadata = scaled["spec"]["triggers"][0]["metadata"]
        # When KEDA asks, with its own way to make an address of these
        path = f"/api/queues/{urllib.parse.quote(metadata['vhostName'], safe='')}/{metadata['queueName']}"
        port = pods["rabbitmq"].ports["management"]
        question = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Basic {token}"})
        with urllib.request.urlopen(question, timeout=30) as answer:
            queue = json.load(answer)

        # Then it is told the number, what is being worked at included
        assert queue["name"] == metadata["queueName"]
        assert queue["messages"] == queue["messages_ready"] + queue["messages_unacknowledged"]


def test_a_worker_stays_far_below_its_limit(pods: dict[str, Pod]) -> None:
    ids = {pod.id: pod.name for pod in pods.values()}
    told = checked("stats", "--no-stream", "--no-trunc", "--format", "{{.ID}} {{.MemPerc}}", *ids)
    used = {ids[id]: float(percent.rstrip("%")) for id, percent in (line.split() for line in told.splitlines())}
    assert used.keys() == pods.keys()
    assert not {name: percent for name, percent in used.items() if percent > 75}


def test_every_pod_ends_when_it_is_told_to(pods: dict[str, Pod]) -> None:
    # The last test of this file: nothing runs after it.
    # When each is told to end, as the kubelet tells it: its first process, by SIGTERM
    clients = [pod for pod in pods.values() if not _is_server(pod.workload)]
    servers = [pod for pod in pods.values() if _is_server(pod.workload)]
    for group in (clients, servers):
        for pod in group:
            checked("kill", "--signal=TERM", pod.id)

        # Then it ends by itself, long before its grace period is over
        for pod in group:
            grace = pod_of(pod.workload)["terminationGracePeriodSeconds"]
            subprocess.run(["docker", "wait", pod.id], capture_output=True, timeout=grace, check=True)
            state = pod.inspect()["State"]
            assert not state["OOMKilled"]
            # 143: by the signal itself.
            assert state["ExitCode"] in (0, 143), f"{pod.name} ended with {state['ExitCode']}:\n{pod.log()}"


def _messages(broker: Pod) -> dict[str, int]:
    """How many messages are in each queue, as far as the broker has counted."""
    listed = broker.run("rabbitmqctl", "-q", "list_queues", "--no-table-headers", "name", "messages").stdout
    return {line.split("\t")[0]: int(line.split("\t")[1]) for line in listed.splitlines()}


def _json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)
