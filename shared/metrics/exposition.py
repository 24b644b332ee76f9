"""Where counting begins, and what a scrape is answered."""

import os
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from shared.metrics.declared import METRICS
from shared.status import Answer


class Exposition:
    """What one process tells; made before it forks, and before anything is to be counted.

    Args:
        forks: whether processes of a pool count too. Their counts are then added up.
        refresh: called before each answer, to set what is only known on asking.
    """

    def __init__(self, *, forks: bool, refresh: Callable[[], None] = lambda: None) -> None:
        # Here, because a process that tells nothing needs none of it.
        import prometheus_client
        from prometheus_client import values

        self._library = prometheus_client
        self._refresh = refresh
        self._registry = prometheus_client.CollectorRegistry()
        self._files: Any = None
        prometheus_client.disable_created_metrics()
        prometheus_client.ProcessCollector(registry=self._registry)
        if forks:
            from shared.metrics.files import Files

            self._files = Files()
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self._files.folder)
            values.ValueClass = _value_class(
                {metric.name.removesuffix("_total") for metric in METRICS if metric.forked}
            )
            self._registry.register(self._files)
        for metric in METRICS:
            registry = None if forks and metric.forked else self._registry
            metric.bind(partial(metric.make, prometheus_client, registry))

    def answer(self) -> Answer:
        """All metrics, in Prometheus' text format."""
        self._refresh()
        text = self._library.generate_latest(self._registry)
        return Answer(HTTPStatus.OK, text, self._library.CONTENT_TYPE_LATEST)

    def tidy(self) -> None:
        """To be called now and then, so that nothing piles up where nobody asks."""
        if self._files is not None:
            self._files.compact()

    def close(self) -> None:
        """Count no more."""
        from prometheus_client import values

        for metric in METRICS:
            metric.bind(None)
        if self._files is not None:
            values.ValueClass = values.MutexValue
            self._files.remove()


def _value_class(forked: set[str]) -> Any:
    """What holds the number of a metric: a file where processes of a pool count too, else this process alone.

    The main process counts the ends of tasks, so they need no file. And what it counts in memory no child uses: a fork
    in the middle of a scrape, which holds its locks, hurts nobody.
    """
    from prometheus_client.values import MultiProcessValue, MutexValue

    in_files = MultiProcessValue()

    def value(kind: str, name: str, *args: Any, **options: Any) -> Any:
        return (in_files if name in forked else MutexValue)(kind, name, *args, **options)

    return value
