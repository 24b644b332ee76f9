"""What spans cost a task, with `OTEL_EXPORTER_OTLP_ENDPOINT` set: python -m bench.spans_cost

Times the two spans of a task, that of its publish and that of its run, and the header between them. They go to a port
where nobody listens: what sends them is another thread.
"""

import statistics
import sys
import time

from shared.app import create_app
from shared.config import Settings
from shared.signatures import calculator

TIMES, ROUNDS = 2_000, 5


def measure() -> float:
    """Seconds a task."""
    from celery.app.task import Context

    from shared.telemetry import spans

    app = create_app("calculator", settings=Settings(otel_exporter_otlp_endpoint="http://127.0.0.1:1"), current=False)

    @app.task(name=calculator.add.name, shared=False)
    def task() -> None: ...

    begun = time.perf_counter()
    for _ in range(TIMES):
        options: dict[str, object] = {}
        with app.spans.publishing(calculator.add.name, options):
            pass
        told = {"exchange": "tasks", "routing_key": calculator.add.name}
        task.request_stack.push(Context(id=options["task_id"], headers=options["headers"], delivery_info=told))
        spans._begin(task)
        spans._end(task, "SUCCESS")
        task.request_stack.pop()
    return (time.perf_counter() - begun) / TIMES


def main() -> int:
    """Measure and print."""
    each = statistics.median(measure() for _ in range(ROUNDS))
    print(f"{each * 1e6:.0f} µs a task for its two spans")
    return 0


if __name__ == "__main__":
    sys.exit(main())
