"""A worker that runs in whatever pool it is told, and says at its start what it does not promise."""

import gc
from typing import Any

from celery.apps.worker import Worker as CeleryWorker
from celery.concurrency import get_implementation
from celery.utils.log import get_logger

from shared import redis_broker

logger = get_logger(__name__)

#: Modules of Celery's pools that can grow and shrink while they run.
SCALING = ("prefork", "gevent")
#: What a pool does not do with a task's time limits.
LIMITS = {
    "thread": "no task is ended at its time limits",
    "gevent": "no task is told at its soft time limit, and one that never waits is not ended at its hard one",
    "solo": "no task is ended at its time limits, and one that takes a minute loses the connection to the broker",
}


class Worker(CeleryWorker):
    """Celery's worker. `--autoscale=MOST,LEAST` may be given with any pool: one that cannot scale has MOST at once."""

    def prepare_args(self, **kwargs: Any) -> dict[str, Any]:
        """What the steps of the worker are made with."""
        scale = kwargs.get("autoscale")
        if scale and _pool(self) not in SCALING:
            self.concurrency, kwargs["autoscale"] = scale[0], None
        return dict(super().prepare_args(**kwargs))

    def on_start(self) -> None:
        """As Celery's, and the warnings."""
        super().on_start()
        if limits := LIMITS.get(_pool(self)):
            logger.warning("This pool promises less than prefork (docs/choices.md): %s", limits)
        if self.app.settings.over_redis:
            logger.warning("%s", redis_broker.warning())
        _share()


def _share() -> None:
    """Have the processes of the pool share what is there before they begin, for as long as they live.

    Celery collects garbage before each fork, and a collection writes into every object that it looks at, so the kernel
    copies all of them for each process. What is frozen no collection looks at, in this process and in those.
    """
    gc.collect()
    gc.freeze()


def _pool(worker: Any) -> str:
    return str(get_implementation(worker.pool_cls).__module__).rpartition(".")[2]
