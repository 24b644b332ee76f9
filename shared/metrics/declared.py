"""Every metric that there is. docs/metrics.md is compared with this page.

A task's name is a label where the app knows the task; any other is `other`.
"""

from shared.metrics.kinds import Counter, Gauge, Histogram, Metric

#: Seconds. A queue that keeps up hands on within the first three; minutes are a pool that is too small, an hour is one
#: that stands still. The schedule's own patience (12 h) is past the last.
WAIT_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
#: Seconds. Arithmetic is done within the first, a fetch from GitHub or a mail within seconds; the last ones are the
#: services' time limits.
RUN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 45, 60, 90, 150)

TASKS = Counter(
    "taskhouse_tasks_total",
    "Attempts of tasks that ended, by how: succeeded, failed, retried, replaced, rejected, timed_out, lost, revoked, "
    "expired, cancelled",
    ("task", "outcome"),
    # A service has some ten tasks.
    most=1000,
)
RUN = Histogram("taskhouse_task_run_seconds", "How long attempts ran", ("task",), buckets=RUN_BUCKETS)
WAIT = Histogram(
    "taskhouse_task_wait_seconds",
    "How long messages waited for a free process, from their publish, or from the end of their delay",
    ("task",),
    buckets=WAIT_BUCKETS,
)
RUNNING = Gauge("taskhouse_tasks_running", "Tasks that run now", ("task",))
RETRIES = Counter("taskhouse_task_retries_total", "Attempts to be made again, by the error", ("task", "reason"))
DEAD_LETTERS = Counter(
    "taskhouse_dead_letters_total",
    "Messages given up, by reason; told is `yes` where the dead letter says why, `no` where the broker moved it",
    ("reason", "told"),
)
REDELIVERIES = Counter("taskhouse_redeliveries_total", "Messages that came again after a worker was lost", ("task",))
PUBLISHES = Counter(
    "taskhouse_publishes_total",
    "Messages published, by the service they are for and by how: confirmed, not_sent, too_large, rejected, unknown",
    ("service", "outcome"),
    forked=True,
)
READY = Gauge("taskhouse_ready", "1 while it takes work, as /readyz says")
PROCESSES = Gauge("taskhouse_pool_processes", "How many tasks its pool can run at once, now")
TICK = Gauge("taskhouse_beat_tick_timestamp_seconds", "When beat last looked at its schedule")
MAILS = Counter(
    "taskhouse_mails_total",
    "Mails, by kind and by what became of them: sent, already (sent before), held (a storm of errors), deferred (to be "
    "tried again), failed",
    ("kind", "outcome"),
    forked=True,
)
GITHUB_QUOTA = Gauge("taskhouse_github_quota_left", "Searches that GitHub allows in this minute", forked=True)
REPORT = Gauge(
    "taskhouse_report_timestamp_seconds", "When a report was last made, by its period", ("period",), forked=True
)
REQUESTS = Counter(
    "taskhouse_http_requests_total",
    "Requests that the gateway answered, by route, method and status",
    ("route", "method", "status"),
    most=500,
)
RESULT_STORE_UP = Gauge("taskhouse_result_store_up", "1 while the result store answers the gateway")

BROKER_UP = Gauge("taskhouse_broker_up", "1 while the broker's management API answers the exporter")
QUEUE_READY = Gauge("taskhouse_queue_ready", "Messages that nobody has taken", ("queue",))
QUEUE_PUBLISHED = Counter(
    "taskhouse_queue_published_total", "Messages that came to the queue since the exporter began to look", ("queue",)
)
QUEUE_UNACKED = Gauge("taskhouse_queue_unacked", "Messages that were taken and not yet acknowledged", ("queue",))
QUEUE_CONSUMERS = Gauge("taskhouse_queue_consumers", "Consumers", ("queue",))
QUEUE_OLDEST = Gauge("taskhouse_queue_oldest_seconds", "How long the first message has waited, at least", ("queue",))
DELAYED = Gauge("taskhouse_delayed_messages", "Messages whose delay has not ended", ())
DELAY_BOUND = Gauge("taskhouse_delay_bound", "1 where delayed messages reach the service's queue", ("service",))
ALARM = Gauge("taskhouse_broker_alarm", "1 while the broker takes no message, for want of memory or disk", ("kind",))
#: Unknown while the broker does not answer.
OF_THE_BROKER = (QUEUE_READY, QUEUE_UNACKED, QUEUE_CONSUMERS, QUEUE_OLDEST, DELAYED, DELAY_BOUND, ALARM)

METRICS: tuple[Metric, ...] = tuple(value for value in globals().values() if isinstance(value, Metric))
