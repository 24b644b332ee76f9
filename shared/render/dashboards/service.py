"""The page of one service: how it is, what it does, what goes wrong, what it takes."""

from collections.abc import Callable, Mapping
from functools import partial

from shared.render.dashboards.grafana import Dashboard, Panel, Query, Row
from shared.render.dashboards.places import ANY, BUSY, NONE, RATE, uid, waits
from shared.spec import ServiceSpec
from shared.topology import dead_letter_queue

#: What a histogram is read at.
SHARES = (0.5, 0.95, 0.99)


def render(spec: ServiceSpec) -> str:
    """service-<name>.json."""
    own = f'service="{spec.name}"'
    beside = _MORE.get(spec.name)
    return Dashboard(
        uid(spec),
        f"taskhouse: {spec.name}",
        f"{spec.summary[0].upper()}{spec.summary[1:]}.",
        (_now(spec, own), *(beside(own) if beside else ()), _work(own), _trouble(own), _queue(spec), _processes(own)),
    ).render()


def _now(spec: ServiceSpec, own: str) -> Row:
    stat = partial(Panel, kind="stat", width=4)
    return Row(
        "Now",
        (
            stat(
                "Ready",
                "Workers that take work. Fewer than `docker compose ps` shows: their /readyz says why.",
                "none",
                (Query(f"sum(taskhouse_ready{{{own}}})"),),
                steps=NONE,
            ),
            stat(
                "Consumers",
                "Of the queue, as the broker counts them. At 0 nothing is done: start the service, see its log.",
                "none",
                (Query(f'max(taskhouse_queue_consumers{{queue="{spec.name}"}})'),),
                steps=NONE,
            ),
            stat(
                "Waiting",
                "Messages that nobody has taken.",
                "short",
                (Query(f'max(taskhouse_queue_ready{{queue="{spec.name}"}})'),),
            ),
            stat(
                "Oldest",
                "How long the first of them has waited, at least. It grows: scale the pool, or see what its tasks "
                "wait for.",
                "s",
                (Query(f'max(taskhouse_queue_oldest_seconds{{queue="{spec.name}"}})'),),
                steps=waits(spec),
            ),
            stat(
                "Pool",
                "How much of it is at work. Full for long: more containers (`make scale`).",
                "percentunit",
                (Query(f"sum(taskhouse_tasks_running{{{own}}}) / sum(taskhouse_pool_processes{{{own}}})"),),
                steps=BUSY,
                most=1,
            ),
            stat(
                "Dead letters",
                f"What was given up and waits for somebody. `dlq list --service {spec.name}` shows why.",
                "short",
                (Query(f'max(taskhouse_queue_ready{{queue="{dead_letter_queue(spec.name)}"}})'),),
                steps=ANY,
            ),
        ),
    )


def _work(own: str) -> Row:
    return Row(
        "Work",
        (
            Panel(
                "Outcomes",
                "Attempts that ended, a second, by how. `lost`: its process died, for want of memory or by a crash.",
                "ops",
                (Query(f"sum by (outcome) (rate(taskhouse_tasks_total{{{own}}}[{RATE}]))", "{{outcome}}"),),
            ),
            Panel(
                "Tasks",
                "Attempts that ended, a second, by task.",
                "ops",
                (Query(f"sum by (task) (rate(taskhouse_tasks_total{{{own}}}[{RATE}]))", "{{task}}"),),
            ),
            Panel(
                "Running",
                "Tasks that run now, by name, and how many the pool can run at once.",
                "short",
                (
                    Query(f"sum by (task) (taskhouse_tasks_running{{{own}}})", "{{task}}"),
                    Query(f"sum(taskhouse_pool_processes{{{own}}})", "the pool"),
                ),
            ),
            Panel(
                "Wait",
                "How long messages waited for a free process: half of them, 95 of 100, 99 of 100. It grows: scale "
                "the pool.",
                "s",
                _quantiles("wait", own),
            ),
            Panel(
                "Run",
                "How long attempts ran: half of them, 95 of 100, 99 of 100. It grows: what they call has become slow.",
                "s",
                _quantiles("run", own),
            ),
            Panel(
                "Run, by task",
                "How long 95 of 100 attempts ran at most, by task.",
                "s",
                (
                    Query(
                        "histogram_quantile(0.95, sum by (le, task) "
                        f"(rate(taskhouse_task_run_seconds_bucket{{{own}}}[{RATE}])))",
                        "{{task}}",
                    ),
                ),
            ),
        ),
    )


def _trouble(own: str) -> Row:
    return Row(
        "Trouble",
        (
            Panel(
                "Retries",
                "Attempts to be made again, a second, by the error. What the tasks call is away, or limits them; "
                "bring it back, and nothing else is to do.",
                "ops",
                (Query(f"sum by (reason) (rate(taskhouse_task_retries_total{{{own}}}[{RATE}]))", "{{reason}}"),),
                width=6,
            ),
            Panel(
                "Dead letters",
                "Messages given up, a second, by reason: docs/operations.md says whose fault each is. Mend it, then "
                "`dlq replay`.",
                "ops",
                (Query(f"sum by (reason) (rate(taskhouse_dead_letters_total{{{own}}}[{RATE}]))", "{{reason}}"),),
                width=6,
            ),
            Panel(
                "Redeliveries",
                "Messages that came again because their worker was lost, a second, by task. One task alone: it ends "
                "its process.",
                "ops",
                (Query(f"sum by (task) (rate(taskhouse_redeliveries_total{{{own}}}[{RATE}]))", "{{task}}"),),
                width=6,
            ),
            Panel(
                "Publishes",
                "Messages that it published, a second, by whom they are for and what the broker said. Others than "
                "`confirmed`: the broker is away, or has an alarm.",
                "ops",
                (
                    Query(
                        f"sum by (exported_service, outcome) (rate(taskhouse_publishes_total{{{own}}}[{RATE}]))",
                        "{{exported_service}} {{outcome}}",
                    ),
                ),
                width=6,
            ),
        ),
    )


def _queue(spec: ServiceSpec) -> Row:
    name = spec.name
    return Row(
        "Queue",
        (
            Panel(
                "Depth",
                "Messages that nobody has taken, and that were taken and not yet acknowledged.",
                "short",
                (
                    Query(f'max(taskhouse_queue_ready{{queue="{name}"}})', "ready"),
                    Query(f'max(taskhouse_queue_unacked{{queue="{name}"}})', "unacknowledged"),
                ),
                width=6,
            ),
            Panel(
                "Oldest",
                "How long the first message has waited, at least.",
                "s",
                (Query(f'max(taskhouse_queue_oldest_seconds{{queue="{name}"}})', "oldest"),),
                width=6,
            ),
            Panel(
                "Consumers",
                "Of the queue: one a worker. Fewer than workers: one is connected and takes nothing.",
                "short",
                (
                    Query(f'max(taskhouse_queue_consumers{{queue="{name}"}})', "consumers"),
                    Query(f'count(up{{service="{name}"}})', "workers"),
                ),
                width=6,
            ),
            Panel(
                "In",
                "Messages a second that came to the queue, whoever published them.",
                "ops",
                (Query(f'sum(rate(taskhouse_queue_published_total{{queue="{name}"}}[{RATE}]))', "in"),),
                width=6,
            ),
        ),
    )


def _processes(own: str) -> Row:
    return Row(
        "Main processes",
        (
            Panel(
                "Memory",
                "Of each worker's main process; those of its pool are not in it. It grows without an end: a leak.",
                "bytes",
                (Query(f"process_resident_memory_bytes{{{own}}}", "{{instance}}"),),
            ),
            Panel(
                "Processor",
                "Cores that each main process uses. Near 1: it does nothing but hand on; more containers, or the "
                "fast lane.",
                "short",
                (Query(f"rate(process_cpu_seconds_total{{{own}}}[{RATE}])", "{{instance}}"),),
            ),
            Panel(
                "Open files",
                "Of each main process, sockets among them. It grows without an end: a leak.",
                "short",
                (Query(f"process_open_fds{{{own}}}", "{{instance}}"),),
            ),
        ),
    )


def _mails(own: str) -> tuple[Row, ...]:
    return (
        Row(
            "Mail",
            (
                Panel(
                    "Mails",
                    "A second, by kind and by what became of them. `deferred`: the mail server is away. `held`: a "
                    "storm of errors, told by the next digest. `failed`: the server says never.",
                    "ops",
                    (
                        Query(
                            f"sum by (kind, outcome) (rate(taskhouse_mails_total{{{own}}}[{RATE}]))",
                            "{{kind}} {{outcome}}",
                        ),
                    ),
                    width=24,
                ),
            ),
        ),
    )


def _github(own: str) -> tuple[Row, ...]:
    return (
        Row(
            "GitHub",
            (
                Panel(
                    "Quota left",
                    "Searches that GitHub allows in this minute, as it last said. At 0 reports wait: give a token.",
                    "short",
                    (Query(f"min(taskhouse_github_quota_left{{{own}}})", "searches"),),
                    width=12,
                ),
                Panel(
                    "Report's age",
                    "Since a report of each period was last made. A day and more for `day`: the nightly one has "
                    "failed.",
                    "s",
                    (
                        Query(
                            f"time() - max by (period) (taskhouse_report_timestamp_seconds{{{own}}})",
                            "{{period}}",
                        ),
                    ),
                    width=12,
                ),
            ),
        ),
    )


#: What a service counts beside its tasks.
_MORE: Mapping[str, Callable[[str], tuple[Row, ...]]] = {"mailer": _mails, "reporter": _github}


def _quantiles(what: str, own: str) -> tuple[Query, ...]:
    return tuple(
        Query(
            f"histogram_quantile({share}, sum by (le) (rate(taskhouse_task_{what}_seconds_bucket{{{own}}}[{RATE}])))",
            f"p{share * 100:g}",
        )
        for share in SHARES
    )
