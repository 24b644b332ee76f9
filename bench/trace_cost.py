"""What `celery -A shared.app trace` costs each task: REDIS_URL=redis://... python -m bench.trace_cost

Times what a result takes on its way to Redis as Celery stores it and as this project does, in turns, and the words that
a task's log has for it. The Redis may be any; what is written expires.
"""

import statistics
import sys
import time
from typing import Any
from uuid import uuid4

from celery.app.task import Context
from celery.backends.redis import RedisBackend as CeleryRedisBackend

from shared.app import create_app
from shared.config import Settings
from shared.results.redis import RedisBackend
from shared.trace import facts

TIMES, ROUNDS = 2_000, 5


def measure(store: Any) -> float:
    """Seconds for each result of a part of a group that `store` takes."""
    root, group = str(uuid4()), str(uuid4())
    begun = time.perf_counter()
    for _ in range(TIMES):
        task_id = str(uuid4())
        request = Context(id=task_id, root_id=root, group=group, task="calculator.add", args=[1, 2], kwargs={})
        facts.begin(request)
        store.store_result(task_id, 3, "SUCCESS", request=request)
    return (time.perf_counter() - begun) / TIMES


def main() -> int:
    """Measure and print."""
    settings = Settings.load()
    if not settings.redis_url:
        # Nothing is published.
        print("set REDIS_URL, and BROKER_URL to anything: amqp://nobody@127.0.0.1//", file=sys.stderr)
        return 2
    app = create_app("calculator", settings=settings, current=False)
    location = settings.redis_location()
    stores = {"Celery's": CeleryRedisBackend(url=location, app=app), "ours": RedisBackend(url=location, app=app)}
    spent: dict[str, list[float]] = {name: [] for name in stores}
    for _ in range(ROUNDS):
        for name, store in stores.items():
            spent[name].append(measure(store))
    for name, seconds in spent.items():
        print(f"{name:9} {statistics.median(seconds) * 1e6:.0f} µs a result, its way to Redis included")
    return 0


if __name__ == "__main__":
    sys.exit(main())
