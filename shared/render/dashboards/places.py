"""What the dashboards have in common: their addresses, the width of a rate, and from when on a value is bad."""

from shared.render.dashboards.grafana import Steps
from shared.spec import ServiceSpec

OVERVIEW, BROKER = "taskhouse-overview", "taskhouse-broker"
#: Grafana's own: long enough for four scrapes, and for the width of the page.
RATE = "$__rate_interval"
#: One is worth a look.
ANY: Steps = ((0.000001, "red"),)
#: None is what should trouble.
NONE: Steps = ((0, "red"), (1, "green"))
#: Of a pool: above nine tenths nothing is left for what comes at once.
BUSY: Steps = ((0.9, "orange"),)


def waits(spec: ServiceSpec) -> Steps:
    """Of its first message: from half of what it may wait on, and from where an operator is called."""
    return (spec.patience / 2, "orange"), (spec.patience, "red")


def uid(spec: ServiceSpec) -> str:
    """Of a service's dashboard."""
    return f"taskhouse-{spec.name}"
