"""Counters, gauges and histograms that are declared once, cost nothing until they begin, and stay bounded."""

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, ClassVar

#: Label values that one metric has in one process; what comes after them is counted as OTHER. A label can then never
#: grow without end, whatever a message says.
MOST_SERIES = 200
OTHER = "other"


class Metric:
    """A metric with its labels, as a value. It counts once `bind` was called.

    Args:
        name: as Prometheus shows it; that of a counter ends in `_total`.
        about: one line for people.
        labels: names of its labels.
        forked: counted in the processes of a prefork pool too, and so kept in files that the main process reads.
        most: sets of label values.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        name: str,
        about: str,
        labels: tuple[str, ...] = (),
        *,
        forked: bool = False,
        most: int = MOST_SERIES,
    ) -> None:
        self.name, self.about, self.labels, self.forked, self.most = name, about, labels, forked, most
        self._make: Callable[[], Any] | None = None
        self._metric: Any = None
        self._series: dict[tuple[str, ...], Any] = {}
        self._lock = Lock()

    def bind(self, make: Callable[[], Any] | None) -> None:
        """Count from now on, in what `make` gives at the first count; None counts no more.

        Not before, so that a process shows only what it has to do with.
        """
        self._make, self._metric, self._series = make, None, {}

    def make(self, library: Any, registry: Any) -> Any:
        """The library's metric of this kind."""
        return getattr(library, self.kind)(self.name, self.about, self.labels, registry=registry)

    def _of(self, values: tuple[str, ...]) -> Any:
        return self._series.get(values) or self._new(values)

    def _new(self, values: tuple[str, ...]) -> Any:
        with self._lock:
            if self._metric is None and self._make is not None:
                self._metric = self._make()
            if values and len(self._series) >= self.most:
                values = (OTHER,) * len(values)
            if values not in self._series:
                self._series[values] = self._metric.labels(*values) if values else self._metric
            return self._series[values]


class Counter(Metric):
    """Only grows."""

    kind = "Counter"

    def inc(self, *values: str, by: float = 1) -> None:
        """Count, under the values of its labels."""
        if self._make is not None:
            self._of(values).inc(by)


class Gauge(Metric):
    """Goes up and down. Of several processes the latest to set it is believed."""

    kind = "Gauge"

    def make(self, library: Any, registry: Any) -> Any:
        """As the other."""
        return library.Gauge(self.name, self.about, self.labels, registry=registry, multiprocess_mode="mostrecent")

    def set(self, value: float, *values: str) -> None:
        """It is so now."""
        if self._make is not None:
            self._of(values).set(value)

    def clear(self) -> None:
        """Nothing is known any more."""
        if self._metric is not None:
            self._metric.clear()
            self._series = {}

    def replace(self, by_label: Mapping[str, float]) -> None:
        """Set all that it tells, of one label; what is not named is 0."""
        if self._make is not None:
            for (known,) in [values for values in self._series if values[0] not in by_label]:
                self._of((known,)).set(0)
            for label, value in by_label.items():
                self._of((label,)).set(value)


class Histogram(Metric):
    """How long things take.

    Args:
        buckets: upper bounds, in seconds.
    """

    kind = "Histogram"

    def __init__(self, name: str, about: str, labels: tuple[str, ...] = (), *, buckets: tuple[float, ...]) -> None:
        super().__init__(name, about, labels)
        self.buckets = buckets

    def make(self, library: Any, registry: Any) -> Any:
        """As the other."""
        return library.Histogram(self.name, self.about, self.labels, registry=registry, buckets=self.buckets)

    def observe(self, seconds: float, *values: str) -> None:
        """One took so long."""
        if self._make is not None:
            self._of(values).observe(seconds)
