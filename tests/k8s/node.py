"""Docker in the part of a node: it runs rendered pods, with the settings that they have in a cluster."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.k8s.manifests import (
    Json,
    Manifests,
    byte_count,
    container_of,
    environment,
    labels_of,
    name_of,
    pod_of,
    selects,
)

#: Kubernetes' own, where a probe does not say.
PERIOD, TIMEOUT, FAILURES = 10, 1, 3


@dataclass(frozen=True)
class Pod:
    """A running container, and the workload that it is of.

    Attributes:
        id: of the container.
        ports: where each of its named ports is reached from here, on the loopback.
    """

    workload: Json
    id: str
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return name_of(self.workload)

    def probe(self, kind: str) -> Json | None:
        """Its `startup`, `readiness` or `liveness` probe."""
        return container_of(self.workload).get(f"{kind}Probe")

    def passes(self, kind: str) -> bool:
        """Ask once, as the kubelet asks. Without a probe it passes while it runs."""
        probe = self.probe(kind)
        if probe is None:
            return self.inspect()["State"]["Running"]
        timeout = probe.get("timeoutSeconds", TIMEOUT)
        if "exec" in probe:
            return self.run(*probe["exec"]["command"]).returncode == 0
        if "tcpSocket" in probe:
            return _listens(self.ports[probe["tcpSocket"]["port"]], timeout)
        return 200 <= self.get(probe["httpGet"]["port"], probe["httpGet"]["path"], timeout) < 400

    def get(self, port: str, path: str, timeout: float) -> int:
        """The status of an answer; 0 where there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[port], timeout=timeout)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", path)
            return connection.getresponse().status
        return 0

    def wait(self, kind: str) -> None:
        """Ask until it passes, for as long as the kubelet would ask, and fail with its log."""
        probe = self.probe(kind) or {}
        allowed = probe.get("periodSeconds", PERIOD) * probe.get("failureThreshold", FAILURES)
        # Beside the other tests: readiness is asked for ever in a cluster.
        deadline = time.monotonic() + max(allowed, 120)
        while not self.passes(kind):
            assert self.inspect()["State"]["Running"], f"{self.name} ended:\n{self.log()}"
            assert time.monotonic() < deadline, f"{self.name}: {kind} was never passed:\n{self.log()}"
            time.sleep(0.2)

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """As `kubectl exec`."""
        return docker("exec", self.id, *command)

    def log(self) -> str:
        """The end of what it said."""
        done = docker("logs", "--tail", "60", self.id)
        return done.stdout + done.stderr

    def inspect(self) -> Json:
        """What the engine says of it."""
        return json.loads(checked("inspect", self.id))[0]


class Node:
    """Runs pods on a network of their own, under the names of their Services."""

    def __init__(self, manifests: Manifests, folder: Path, prefix: str) -> None:
        self.manifests, self.folder, self.prefix = manifests, folder, prefix
        self.pods: dict[str, Pod] = {}
        self._started: list[str] = []
        checked("network", "create", prefix)

    def start(self, workloads: Iterable[Json]) -> None:
        """One pod of each."""
        for workload in workloads:
            self.pods[name_of(workload)] = self._run(workload, "0")

    def surge(self, name: str, revision: str) -> Pod:
        """The first half of `kubectl rollout restart`: a new pod that is ready; gives the old one."""
        old = self.pods[name]
        self.pods[name] = new = self._run(old.workload, revision)
        for kind in ("startup", "readiness"):
            new.wait(kind)
        return old

    def retire(self, old: Pod) -> None:
        """The second half: the old one is told to end, and has its grace period."""
        checked("kill", "--signal=TERM", old.id)
        grace = pod_of(old.workload)["terminationGracePeriodSeconds"]
        subprocess.run(["docker", "wait", old.id], capture_output=True, timeout=grace, check=True)

    def _run(self, workload: Json, replica: str) -> Pod:
        pod = Pod(workload, checked("run", "--detach", *self._arguments(workload, replica)).strip())
        self._started.append(pod.id)
        pod.ports.update({port["name"]: _published(pod.id, port) for port in container_of(workload).get("ports", [])})
        return pod

    def stop(self) -> None:
        """Everything that was started here."""
        for id in self._started:
            docker("rm", "--force", "--volumes", id)
        docker("network", "rm", self.prefix)

    def _arguments(self, workload: Json, replica: str) -> list[str]:
        pod, container = pod_of(workload), container_of(workload)
        secured, own = pod["securityContext"], container["securityContext"]
        name = name_of(workload)
        arguments = [
            f"--name={self.prefix}-{name}-{replica}",
            f"--network={self.prefix}",
            # A StatefulSet's pods are numbered; a Deployment's have other ends.
            f"--hostname={name}-{replica}",
            f"--user={secured['runAsUser']}:{secured['runAsGroup']}",
            f"--group-add={secured['fsGroup']}",
            *(f"--cap-drop={capability}" for capability in own["capabilities"]["drop"]),
            f"--memory={byte_count(container['resources']['limits']['memory'])}",
            f"--memory-swap={byte_count(container['resources']['limits']['memory'])}",
        ]
        if own["readOnlyRootFilesystem"]:
            arguments.append("--read-only")
        if not own["allowPrivilegeEscalation"]:
            arguments.append("--security-opt=no-new-privileges")
        for service in self.manifests.of("Service"):
            if selects({"matchLabels": service["spec"]["selector"]}, labels_of(workload)):
                arguments.append(f"--network-alias={name_of(service)}")
        for port in container.get("ports", []):
            arguments.append(f"--publish=127.0.0.1::{port['containerPort']}")
        for variable, value in environment(self.manifests, workload).items():
            arguments.append(f"--env={variable}={value}")
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for mount in container["volumeMounts"]:
            arguments += self._mount(workload, volumes[mount["name"]], mount)
        command = container.get("command", [])
        if command:
            arguments.append(f"--entrypoint={command[0]}")
        return [*arguments, container["image"], *command[1:], *container.get("args", [])]

    def _mount(self, workload: Json, volume: Json, mount: Json) -> list[str]:
        path, secured = mount["mountPath"], pod_of(workload)["securityContext"]
        group = secured["fsGroup"]
        if "emptyDir" in volume:
            size = byte_count(volume["emptyDir"]["sizeLimit"])
            # Kubernetes opens it for everyone; Docker gives it the mode of the folder that it covers, so the owner too.
            return [f"--tmpfs={path}:exec,size={size},mode=2777,uid={secured['runAsUser']},gid={group}"]
        if "persistentVolumeClaim" in volume:
            source = self.folder / volume["persistentVolumeClaim"]["claimName"] / mount["subPath"]
            source.mkdir(parents=True, exist_ok=True)
            source.chmod(0o777)
        else:
            source = self._files(workload, volume, group)
            if "subPath" in mount:
                source /= mount["subPath"]
        return [f"--volume={source}:{path}{':ro' if mount.get('readOnly') else ''}"]

    def _files(self, workload: Json, volume: Json, group: int) -> Path:
        """A folder with the content of a ConfigMap or a Secret, as its pod may read it."""
        folder = self.folder / name_of(workload) / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        if "secret" in volume:
            found = [one for one in self.manifests.of("Secret") if name_of(one) == volume["secret"]["secretName"]]
            assert found or volume["secret"].get("optional")
            content = {key: b64decode(value) for one in found for key, value in one["data"].items()}
            mode = volume["secret"]["defaultMode"]
        else:
            config = self.manifests.one("ConfigMap", volume["configMap"]["name"])
            content = {key: value.encode() for key, value in config["data"].items()}
            mode = 0o644
        for key, value in content.items():
            file = folder / key
            file.write_bytes(value)
            try:
                os.chown(file, 0, group)
                file.chmod(mode)
            except PermissionError:
                # Who is not root cannot give a file away; then the group's right cannot be tried here.
                file.chmod(0o444)
        return folder


def docker(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run docker."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)


def checked(*arguments: str) -> str:
    """What docker prints; it must succeed."""
    done = docker(*arguments)
    assert done.returncode == 0, f"docker {arguments[0]}: {done.stderr}"
    return done.stdout


def _published(id: str, port: Json) -> int:
    return int(checked("port", id, str(port["containerPort"])).splitlines()[0].rpartition(":")[2])


def _listens(port: int, timeout: float) -> bool:
    # Docker's own proxy takes every connection: only what is kept open is answered behind it.
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as connection:
            connection.settimeout(0.3)
            return connection.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False
