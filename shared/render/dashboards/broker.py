"""The broker's page: whether it takes messages, what waits in it, how much passes, what it takes of the machine.

What begins with `rabbitmq_` is told by RabbitMQ's own plugin, the rest by the exporter.
"""

from functools import partial

from shared.render.dashboards.grafana import Dashboard, Panel, Query, Row
from shared.render.dashboards.places import ANY, BROKER, NONE, RATE
from shared.topology import UNROUTED_QUEUE

#: Services' own queues.
_WORK = f'queue!="{UNROUTED_QUEUE}", queue!~".+[.]dead"'


def render() -> str:
    """broker.json."""
    return Dashboard(
        BROKER,
        "taskhouse: broker",
        "RabbitMQ: alarms, queues, what passes, and what it takes of its machine.",
        (_now(), _queues(), _messages(), _nodes()),
    ).render()


def _now() -> Row:
    stat = partial(Panel, kind="stat", width=4)
    return Row(
        "Now",
        (
            stat(
                "Nodes",
                "Nodes of the broker that answer Prometheus. One fewer: `docker compose ps`, then start it.",
                "none",
                (Query('sum(up{job="broker"})'),),
                steps=NONE,
            ),
            stat(
                "Alarms",
                "1 while it takes no message, for want of memory or of disk. Let the queue that fills it drain, or "
                "give it more.",
                "none",
                (Query("max by (kind) (taskhouse_broker_alarm)", "{{kind}}"),),
                steps=ANY,
            ),
            stat(
                "Unrouted",
                "Messages that no service takes. `dlq list --service unrouted`, and `dlq replay` when the service is "
                "there.",
                "short",
                (Query(f'max(taskhouse_queue_ready{{queue="{UNROUTED_QUEUE}"}})'),),
                steps=ANY,
            ),
            stat(
                "Dead letters",
                "Of all services. `dlq list` shows why.",
                "short",
                (Query('sum(taskhouse_queue_ready{queue=~".+[.]dead"})'),),
                steps=ANY,
            ),
            stat(
                "Delayed",
                "Messages whose delay has not ended.",
                "short",
                (Query("max(taskhouse_delayed_messages)"),),
            ),
            stat(
                "Delays bound",
                "Services whose queue delayed messages reach. Fewer than there are: restart the one that is missing.",
                "none",
                (Query("sum(taskhouse_delay_bound)"),),
                steps=NONE,
            ),
        ),
    )


def _queues() -> Row:
    return Row(
        "Queues",
        (
            Panel(
                "Ready",
                "Messages that nobody has taken. One grows: its pool is too small, or stands still.",
                "short",
                (Query(f"max by (queue) (taskhouse_queue_ready{{{_WORK}}})", "{{queue}}"),),
            ),
            Panel(
                "Oldest",
                "How long the first message of each has waited, at least.",
                "s",
                (Query(f"max by (queue) (taskhouse_queue_oldest_seconds{{{_WORK}}})", "{{queue}}"),),
            ),
            Panel(
                "Unacknowledged",
                "Messages that were taken and are worked at.",
                "short",
                (Query(f"max by (queue) (taskhouse_queue_unacked{{{_WORK}}})", "{{queue}}"),),
            ),
            Panel(
                "In",
                "Messages a second that came to each queue.",
                "ops",
                (Query(f"sum by (queue) (rate(taskhouse_queue_published_total{{{_WORK}}}[{RATE}]))", "{{queue}}"),),
            ),
            Panel(
                "Consumers",
                "Of each queue. At 0 nothing is done: start the service.",
                "short",
                (Query(f"max by (queue) (taskhouse_queue_consumers{{{_WORK}}})", "{{queue}}"),),
            ),
            Panel(
                "Waiting for somebody",
                "Dead letters of each service, and what no service takes. `dlq` deals with them.",
                "short",
                (Query(f'max by (queue) (taskhouse_queue_ready{{queue=~"{UNROUTED_QUEUE}|.+[.]dead"}})', "{{queue}}"),),
            ),
        ),
    )


def _messages() -> Row:
    return Row(
        "Messages",
        (
            Panel(
                "From publishers",
                "A second: received, confirmed, and returned because nothing takes them. Confirmed below received, for "
                "long: the broker is short of disk or of nodes.",
                "ops",
                (
                    Query(f"sum(rate(rabbitmq_global_messages_received_total[{RATE}]))", "received"),
                    Query(f"sum(rate(rabbitmq_global_messages_confirmed_total[{RATE}]))", "confirmed"),
                    Query(f"sum(rate(rabbitmq_global_messages_unroutable_returned_total[{RATE}]))", "returned"),
                ),
            ),
            Panel(
                "To consumers",
                "A second: delivered, acknowledged, and given again. Acknowledged below delivered, for long: tasks end "
                "their processes.",
                "ops",
                (
                    Query(f"sum(rate(rabbitmq_global_messages_delivered_total[{RATE}]))", "delivered"),
                    Query(f"sum(rate(rabbitmq_global_messages_acknowledged_total[{RATE}]))", "acknowledged"),
                    Query(f"sum(rate(rabbitmq_global_messages_redelivered_total[{RATE}]))", "given again"),
                ),
            ),
            Panel(
                "Connections",
                "Clients, and channels of theirs. Either grows without an end: a client that does not close them.",
                "short",
                (
                    Query("sum(rabbitmq_connections)", "connections"),
                    Query("sum(rabbitmq_channels)", "channels"),
                ),
            ),
        ),
    )


def _nodes() -> Row:
    return Row(
        "Nodes",
        (
            Panel(
                "Memory",
                "Of each node, and where its alarm begins. Near it: let queues drain, or raise `mem_limit`.",
                "bytes",
                (
                    Query("rabbitmq_process_resident_memory_bytes", "{{instance}}"),
                    Query("min(rabbitmq_resident_memory_limit_bytes)", "alarm"),
                ),
            ),
            Panel(
                "Disk left",
                "Of each node, and where its alarm begins. Near it: let queues drain, or give it more.",
                "bytes",
                (
                    Query("rabbitmq_disk_space_available_bytes", "{{instance}}"),
                    Query("max(rabbitmq_disk_space_available_limit_bytes)", "alarm"),
                ),
            ),
            Panel(
                "Open files",
                "Of each node, and how many it may open. At the limit it takes no connection.",
                "short",
                (
                    Query("rabbitmq_process_open_fds", "{{instance}}"),
                    Query("min(rabbitmq_process_max_fds)", "limit"),
                ),
            ),
        ),
    )
