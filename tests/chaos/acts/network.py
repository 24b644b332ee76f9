"""Lines that break: packets are dropped, lost or late in the network of one container, and nowhere else."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.stage import Stage

AMQP = 5672
#: Seconds on top of two heartbeats in which a worker must consume again.
PATIENCE = 30.0
IMAGE = f"taskhouse/net-fault:{os.environ.get('TEST_TAG', 'test')}"
FOLDER = Path(__file__).resolve().parents[1] / "net"
DROP = (f"INPUT -p tcp --sport {AMQP} -j DROP", f"OUTPUT -p tcp --dport {AMQP} -j DROP")
LOSS = tuple(
    f"{chain} -p tcp {port} {AMQP} -m statistic --mode random --probability 0.05 -j DROP"
    for chain, port in (("INPUT", "--sport"), ("OUTPUT", "--dport"))
)


def cut_off(stage: Stage) -> None:
    """The worker's packets to and from the broker are dropped; then they pass again."""
    sidecar = Sidecar(stage, "calculator")
    stage.publish()
    stage.until("tasks run", lambda: stage.counts()["effects"] >= 5)
    with stage.fault(), sidecar.rules(*DROP):
        stage.pause(stage.scale.down)
    stage.drained()
    stage.recovers_within(2 * stage.heartbeat + PATIENCE)


def lossy(stage: Stage) -> None:
    """A line with 5 % loss and 100 ms delay; at its end the container is killed. Tasks come until then."""
    sidecar = Sidecar(stage, "calculator")
    stage.publish()
    stage.until("tasks run", lambda: stage.counts()["effects"] >= 5)
    with sidecar.slowed(milliseconds=100), stage.fault(), sidecar.rules(*LOSS):
        done = stage.counts()["effects"]
        stage.pause(stage.scale.down)
        stage.notes["effects a second on the lossy line"] = (stage.counts()["effects"] - done) / stage.scale.down
    stage.until("tasks run", stage.at_work)
    stage.docker("kill", "--signal=KILL", sidecar.container)
    stage.docker("start", sidecar.container)
    stage.stop()
    stage.drained()


class Sidecar:
    """Another container in the network of the one container of `service`, which may change what passes there."""

    def __init__(self, stage: Stage, service: str) -> None:
        stage.docker("build", "--quiet", "--tag", IMAGE, str(FOLDER))
        self.stage, self.container = stage, stage.container(service)

    @contextmanager
    def rules(self, *rules: str) -> Iterator[None]:
        """Have these rules of iptables in force; each begins with its chain."""
        self._run(*(f"iptables -A {rule}" for rule in rules))
        try:
            yield
        finally:
            self._run(*(f"iptables -D {rule}" for rule in rules))

    @contextmanager
    def slowed(self, milliseconds: int) -> Iterator[None]:
        """Have everything to and from the broker come later: by netem, or by a relay where the kernel has none."""
        add = f"tc qdisc add dev eth0 root netem delay {milliseconds}ms"
        if subprocess.run(self._command(add), capture_output=True, check=False).returncode == 0:
            try:
                yield
            finally:
                self._run("tc qdisc del dev eth0 root netem")
            return
        relay = self.stage.docker(
            *self._options("--detach"), IMAGE, "python", "/relay.py", str(AMQP), str(milliseconds)
        )
        try:
            self.stage.until("the relay listens", lambda: "relaying" in self.stage.docker("logs", relay.strip()))
            # Connections that are there already pass the relay by, so they are ended.
            with self.rules(f"OUTPUT -p tcp --dport {AMQP} -m owner ! --uid-owner 0 -j REJECT --reject-with tcp-reset"):
                self.stage.pause(1.0)
            before = self.stage.counts()["effects"]
            self.stage.until("it works over the relay", lambda: self.stage.counts()["effects"] > before)
            yield
        finally:
            subprocess.run(["docker", "rm", "--force", relay.strip()], capture_output=True, check=False)
            self._run("iptables -t nat -F OUTPUT")

    def _options(self, *more: str) -> tuple[str, ...]:
        rights = ("--cap-drop=ALL", "--cap-add=NET_ADMIN", "--cap-add=NET_RAW")
        return ("run", "--rm", *more, f"--network=container:{self.container}", *rights)

    def _command(self, script: str) -> list[str]:
        return ["docker", *self._options(), IMAGE, "sh", "-c", script]

    def _run(self, *commands: str) -> None:
        self.stage.docker(*self._command(" && ".join(commands))[1:])
