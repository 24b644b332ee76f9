"""One measurement: a peer, a workload, a kind of queue."""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.peers.peer import THROUGHPUT, Peer
from bench.peers.servers import Servers
from bench.waiting import until

#: How often each workload is done in one measurement: in the full run, and in the short one. Some seconds each; of what
#: is over in half a second its beginning would be measured, and so `Peer.more`.
COUNTS = {
    "nothing": (10_000, 500),
    "payload": (4_000, 500),
    "sleep": (2_000, 300),
    "hash": (1_000, 200),
    "publish": (4_000, 500),
    "round_trip": (300, 50),
    "chord": (3, 1),
}
#: Tasks at once where each of them waits.
AT_ONCE = 100
#: Seconds for a measurement.
PATIENCE = 120.0


@dataclass(frozen=True)
class Figure:
    """What was measured.

    Attributes:
        value: tasks or messages a second; of `round_trip` and `chord` milliseconds each.
        memory: bytes that the worker's processes had at most, together; None where there is no worker.
    """

    value: float
    memory: int | None


def measure(peer: Peer, workload: str, kind: str, servers: Servers, short: bool) -> Figure:
    """Measure, with nobody else at the servers.

    Raises:
        RuntimeError: the peer failed; the message says how.
    """
    count = COUNTS[workload][short] * (peer.more if workload == "nothing" else 1)
    servers.clear(kind)
    with tempfile.TemporaryDirectory() as folder:
        rate = Path(folder, "rate")
        # Celery's own command would take our URL, which is another user's, from there.
        ours = servers.environ if peer.module == "our_peer" else {}
        environ = {**os.environ, **ours, **peer.environ}
        environ |= {"BENCH_RABBITMQ": servers.rabbitmq, "BENCH_REDIS": servers.redis, "BENCH_QUEUE": kind}
        environ |= {"BENCH_WORKLOAD": workload, "PYTHONPATH": str(Path.cwd()), "TMPDIR": folder}
        if workload in ("payload", "round_trip", "chord"):
            environ["BENCH_RESULTS"] = "1"
        if workload == "publish":
            return Figure(_client(peer, "publish", count, {**environ, "BENCH_CONFIRMS": "1"}), None)
        tasks = AT_ONCE if workload == "sleep" else peer.tasks
        if tasks != peer.tasks and "BENCH_PREFETCH" in environ:
            environ["BENCH_PREFETCH"] = str(1000 // tasks)
        if workload in THROUGHPUT:
            _client(peer, "send", count, environ, workload)
            environ |= {"BENCH_TASKS": str(count), "BENCH_RATE": str(rate)}
        command = peer.worker.format(tasks=tasks, redis=servers.redis).split()
        log = Path(folder, "log")
        with log.open("w") as told:
            worker = subprocess.Popen([sys.executable, "-m", *command], env=environ, stdout=told, stderr=told)
        try:
            if workload in THROUGHPUT:
                peak = _wait(worker, rate, log)
                return Figure(float(rate.read_text()), peak)
            try:
                value = _client(peer, workload, count, environ)
            except RuntimeError as error:
                raise RuntimeError(f"{error}; its worker said: {log.read_text()[-600:]}") from None
            return Figure(value, _peak(worker.pid))
        finally:
            _end(worker)


def _client(peer: Peer, what: str, count: int, environ: dict[str, str], workload: str = "nothing") -> float:
    command = [sys.executable, "-m", "bench.peers.act", peer.module, what, str(count), workload]
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{what} took more than {PATIENCE:g} s") from None
    if done.returncode:
        raise RuntimeError(f"{what}: {done.stderr.strip()[-600:]}")
    return float(json.loads(done.stdout.strip().splitlines()[-1])) if what != "send" else 0.0


def _wait(worker: "subprocess.Popen[bytes]", rate: Path, log: Path) -> int:
    peak, last, end = 0, 0.0, time.monotonic() + PATIENCE

    def done() -> bool:
        nonlocal peak, last
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            peak = max(peak, _peak(worker.pid))
        if worker.poll() is not None and not rate.exists():
            raise RuntimeError(f"the worker ended with {worker.returncode}: {log.read_text()[-400:]}")
        if time.monotonic() > end:
            raise RuntimeError(f"the tasks were not done within {PATIENCE:g} s: {log.read_text()[-400:]}")
        return rate.exists() and bool(rate.read_text())

    until(done, "the tasks are done", PATIENCE + 10)
    with suppress(OSError):
        peak = max(peak, _peak(worker.pid))
    return peak


def _peak(pid: int) -> int:
    """Bytes that a process and its children had at most, each at its own time."""
    total = 0
    for one in _family(pid):
        with suppress(OSError):
            for line in Path(f"/proc/{one}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1]) * 1024
    return total


def _family(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        with suppress(OSError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in Path(thread, "children").read_text().split()]
    return found


def _end(worker: "subprocess.Popen[bytes]") -> None:
    children = _family(worker.pid)[1:]
    worker.terminate()
    try:
        worker.wait(5)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()
    for child in children:
        # Those of a worker that was killed.
        with suppress(OSError):
            os.kill(child, 9)
