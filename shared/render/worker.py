"""How a service's worker is started, wherever it runs."""

from dataclasses import replace

from shared.spec import Pool, ServiceSpec


def embedded_arguments(spec: ServiceSpec, pool: Pool = "threads") -> list[str]:
    """As below, with threads: nothing to fork on a laptop, and it starts and stops in a moment. Time limits need
    processes, so the embedded mode has none."""
    return worker_arguments(replace(spec, pool=pool))


def worker_arguments(spec: ServiceSpec) -> list[str]:
    """What follows `celery`: the same under compose and Kubernetes."""
    least, most = spec.concurrency
    # Only these pools can grow and shrink; the others hold the larger number.
    scales = spec.pool in ("prefork", "gevent") and least < most
    return [
        "-A",
        spec.app,
        "worker",
        f"--queues={spec.name}",
        f"--pool={spec.pool}",
        f"--autoscale={most},{least}" if scales else f"--concurrency={most}",
        # Unique on each host, so that two workers never share a control queue.
        f"--hostname={spec.name}@%h",
        # Workers may not write to the control exchange, which both of these do.
        "--without-mingle",
        "--without-gossip",
    ]
