"""The first look: what is wrong in the house, and a row a service."""

from collections.abc import Iterable
from functools import partial

from shared.render.dashboards.grafana import Dashboard, Panel, Query, Row, address
from shared.render.dashboards.places import ANY, BROKER, BUSY, NONE, OVERVIEW, RATE, uid, waits
from shared.render.permissions import BEAT
from shared.spec import ServiceSpec
from shared.topology import PUBLISHERS, SERVICES, UNROUTED_QUEUE


def render(services: Iterable[ServiceSpec] = SERVICES) -> str:
    """overview.json."""
    return Dashboard(
        OVERVIEW,
        "taskhouse: overview",
        "What is stuck, and whose it is. The menu of a panel leads to the service's own page.",
        (_house(), *(_line(spec) for spec in services), _publishers()),
    ).render()


def _house() -> Row:
    stat = partial(Panel, kind="stat", width=4)
    return Row(
        "The house",
        (
            stat(
                "Broker up",
                "1 while the broker's management API answers the exporter. At 0 look at the broker's page.",
                "none",
                (Query("min(taskhouse_broker_up)"),),
                steps=NONE,
                link=address(BROKER),
            ),
            stat(
                "Broker alarms",
                "Above 0 the broker takes no message from publishers, for want of memory or disk: let its queues "
                "drain.",
                "none",
                (Query("sum(taskhouse_broker_alarm)"),),
                steps=ANY,
                link=address(BROKER),
            ),
            stat(
                "Unrouted",
                "Messages that no service takes: a task's name is wrong, or its service is not there. `dlq list "
                "--service unrouted` shows them.",
                "short",
                (Query(f'max(taskhouse_queue_ready{{queue="{UNROUTED_QUEUE}"}})'),),
                steps=ANY,
                link=address(BROKER),
            ),
            stat(
                "Dead letters",
                "Messages that were given up and wait for somebody, of all services. `dlq list` shows why.",
                "short",
                (Query('sum(taskhouse_queue_ready{queue=~".+[.]dead"})'),),
                steps=ANY,
            ),
            stat(
                "Result store up",
                "1 while Redis answers the gateway. At 0 tasks go on, and whoever asks for a result gets an error.",
                "none",
                (Query("min(taskhouse_result_store_up)"),),
                steps=NONE,
            ),
            stat(
                "Beat's last tick",
                "Since beat looked at its schedule. Above a minute it is silent: see its log.",
                "s",
                (Query("time() - max(taskhouse_beat_tick_timestamp_seconds)"),),
                steps=((60, "red"),),
            ),
        ),
    )


def _line(spec: ServiceSpec) -> Row:
    """In, out, wait, run, failures, pool."""
    name, link = spec.name, address(uid(spec))
    own = f'service="{name}"'
    stat = partial(Panel, kind="stat", width=4, link=link)
    return Row(
        f"{name}: {spec.summary}",
        (
            stat(
                "In",
                "Messages a second that came to the queue. More in than out, for long: the pool is too small.",
                "ops",
                (Query(f'sum(rate(taskhouse_queue_published_total{{queue="{name}"}}[{RATE}]))'),),
            ),
            stat(
                "Out",
                "Tasks a second that were done. 0 while there is something in: no worker consumes, or all are stuck.",
                "ops",
                (Query(f'sum(rate(taskhouse_tasks_total{{{own}, outcome=~"succeeded|replaced"}}[{RATE}]))'),),
            ),
            stat(
                "Wait",
                "How long the first message of the queue has waited, at least. It grows: scale the pool, or see what "
                "its tasks wait for.",
                "s",
                (Query(f'max(taskhouse_queue_oldest_seconds{{queue="{name}"}})'),),
                steps=waits(spec),
            ),
            stat(
                "Run",
                "How long 95 of 100 attempts ran at most. It grows: what the tasks call has become slow.",
                "s",
                (Query(_quantile(0.95, "run", own)),),
            ),
            stat(
                "Failures",
                "Attempts a second that failed and are not tried again, and so dead letters. `dlq list` shows why.",
                "ops",
                (
                    Query(
                        f"sum(rate(taskhouse_tasks_total{{{own}, "
                        f'outcome!~"succeeded|replaced|retried|cancelled"}}[{RATE}]))'
                    ),
                ),
                steps=ANY,
            ),
            stat(
                "Pool",
                "How much of the pool is at work. Full for long: more containers (`make scale`).",
                "percentunit",
                (Query(f"sum(taskhouse_tasks_running{{{own}}}) / sum(taskhouse_pool_processes{{{own}}})"),),
                steps=BUSY,
                most=1,
            ),
        ),
    )


def _publishers() -> Row:
    names = "|".join((*(spec.name for spec in PUBLISHERS), BEAT))
    return Row(
        "Who hands in work",
        (
            Panel(
                "Requests",
                "What the gateway answered, a second, by status. 5xx: each is mailed to the administrators.",
                "ops",
                (Query(f"sum by (status) (rate(taskhouse_http_requests_total[{RATE}]))", "{{status}}"),),
                width=12,
            ),
            Panel(
                "Publishes",
                "Messages of the gateway and of beat, a second, by whom they are for and what the broker said. "
                "Others than `confirmed`: the broker is away, or has an alarm.",
                "ops",
                (
                    Query(
                        "sum by (exported_service, outcome) "
                        f'(rate(taskhouse_publishes_total{{service=~"{names}"}}[{RATE}]))',
                        "{{exported_service}} {{outcome}}",
                    ),
                ),
                width=12,
            ),
        ),
    )


def _quantile(share: float, what: str, own: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate(taskhouse_task_{what}_seconds_bucket{{{own}}}[{RATE}])))"
