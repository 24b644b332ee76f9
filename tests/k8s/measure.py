"""What a pod needs, idle and under load: `make k8s-resources` runs the local house's pods in Docker and prints it.

The numbers go into `requests` of shared/topology.py and into the hand-written pods of k8s/.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shared.topology import SERVICES
from tests.k8s.manifests import ROOT, Json, Tree, byte_count, container_of, labels_of, requests_of
from tests.k8s.node import Node, Pod, checked, docker

#: Seconds for which idle pods are watched. Their heartbeats and events come every 2 to 30 s.
IDLE_FOR = 30.0
IMAGES = (*(spec.name for spec in SERVICES), "gateway", "beat", "flower", "cli", "github-stand-in")
#: Keeps every pool busy that can be without an address outside: reports of many days, mail, arithmetic.
LOAD = """
from datetime import date, timedelta
from shared.app import app
from shared.signatures import calculator, mailer, reporter, scoped
today = date.today()
for day in range(15):
    reporter.produce_report(period="day", ref_date=today - timedelta(days=day)).delay()
for number in range(600):
    calculator.add(number, 1).delay()
    scoped.show(2).delay()
    if number % 10 == 0:
        mailer.send_test().delay()
"""


def main() -> int:
    """Print a line a pod: processor and memory, idle and at their highest, and what its manifest says."""
    tag = os.environ.get("TAG", "latest")
    subprocess.run(
        ["docker", "compose", "--profile", "offline", "--profile", "tools", "build", "--quiet"],
        cwd=ROOT,
        env=os.environ | {"TAG": tag},
        check=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        tree = Tree(Path(folder))
        tree.make_secrets()
        manifests = tree.build("local with github-stand-in", {f"taskhouse/{name}": tag for name in IMAGES})
        # One minute of GitHub's limits would be all that is measured.
        container_of(manifests.one("Deployment", "github"))["args"] = ["--no-rate-limits"]
        node = Node(manifests, Path(folder), f"taskhouse-measured-{os.getpid()}")
        try:
            node.start(sorted(manifests.workloads, key=lambda one: -_is_server(one)))
            for pod in node.pods.values():
                pod.wait("readiness")
            pods = list(node.pods.values())
            idle = _watch(pods, lambda since: since > IDLE_FOR)
            with ThreadPoolExecutor() as beside:
                done = beside.submit(docker, "exec", node.pods["cli"].id, "python", "-c", LOAD)
                busy = _watch(pods, lambda _: done.done() and _waiting(node.pods["rabbitmq"]) == 0)
            if done.result().returncode != 0:
                print(done.result().stderr, file=sys.stderr)
                return 1
            print(json.dumps({"seconds idle": IDLE_FOR, "cores": os.cpu_count()}))
            print(f"{'pod':16}{'idle':>8}{'busy':>8}{'idle':>9}{'busy':>9}{'request':>18}{'limit':>9}")
            for pod in pods:
                print(_line(pod, idle[pod.name], busy[pod.name]))
        finally:
            node.stop()
    return 0


def _line(pod: Pod, idle: tuple[float, int], busy: tuple[float, int]) -> str:
    cpu, memory = requests_of(container_of(pod.workload))
    limit = byte_count(container_of(pod.workload)["resources"]["limits"]["memory"])
    return (
        f"{pod.name:16}{idle[0] * 1000:7.0f}m{busy[0] * 1000:7.0f}m{idle[1] >> 20:7}Mi{busy[1] >> 20:7}Mi"
        f"{cpu * 1000:9.0f}m{memory >> 20:6}Mi{limit >> 20:7}Mi"
    )


def _watch(pods: list[Pod], enough: Callable[[float], bool]) -> dict[str, tuple[float, int]]:
    """Of each pod the mean cores and the most bytes, until it is enough."""
    began, before = time.monotonic(), {pod.name: _cpu_seconds(pod) for pod in pods}
    most = dict.fromkeys(before, 0)
    while not enough(time.monotonic() - began):
        for pod in pods:
            state = pod.inspect()["State"]
            assert state["Running"], f"{pod.name} ended, out of memory: {state['OOMKilled']}"
            most[pod.name] = max(most[pod.name], _memory(pod))
        time.sleep(1)
    took = time.monotonic() - began
    return {pod.name: ((_cpu_seconds(pod) - before[pod.name]) / took, most[pod.name]) for pod in pods}


def _memory(pod: Pod) -> int:
    """As the kubelet counts: used, without the file cache that can be given back at once."""
    # The one of control groups of version 2, and those of version 1.
    used = _read(pod, "memory.current", "memory/memory.usage_in_bytes")
    told = dict(line.split() for line in _read(pod, "memory.stat", "memory/memory.stat").splitlines())
    return int(used) - int(told.get("total_inactive_file", told.get("inactive_file", 0)))


def _cpu_seconds(pod: Pod) -> float:
    told = _read(pod, "cpu.stat", "cpuacct/cpuacct.usage")
    if told.strip().isdigit():
        return int(told) / 1e9
    return int(dict(line.split() for line in told.splitlines())["usage_usec"]) / 1e6


def _read(pod: Pod, *names: str) -> str:
    return checked("exec", pod.id, "sh", "-c", " || ".join(f"cat /sys/fs/cgroup/{name} 2>/dev/null" for name in names))


def _waiting(broker: Pod) -> int:
    listed = broker.run("rabbitmqctl", "-q", "list_queues", "--no-table-headers", "name", "messages").stdout
    counts = dict(line.split("\t") for line in listed.splitlines())
    return sum(int(counts.get(spec.name, 1)) for spec in SERVICES)


def _is_server(workload: Json) -> bool:
    return labels_of(workload)["app.kubernetes.io/component"] == "server"


if __name__ == "__main__":
    sys.exit(main())
