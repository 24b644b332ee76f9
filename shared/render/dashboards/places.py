"""What the dashboards have in common: their addresses, the width of a rate, and from when on a value is bad."""

from shared.render.dashboards.grafana import Steps
from shared.topology import ServiceSpec

OVERVIEW, BROKER = "taskhouse-overview", "taskhouse-broker"
#: Grafana's own: long enough for four scrapes, and for the width of the page.
RATE = "$__rate_interval"
#: One is worth a look.
ANY: Steps = ((0.000001, "red"),)
#: None is what should trouble.
NONE: Steps = ((0, "red"), (1, "green"))
#: Seconds: after one minute a pool is too small, after a quarter of an hour it stands still.
WAITS: Steps = ((60, "orange"), (900, "red"))
#: Of a pool: above nine tenths nothing is left for what comes at once.
BUSY: Steps = ((0.9, "orange"),)


def uid(spec: ServiceSpec) -> str:
    """Of a service's dashboard."""
    return f"taskhouse-{spec.name}"
