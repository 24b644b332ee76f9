"""Prometheus' alert rules: what an operator is called for, of each service and of the house.

Each says what is stuck, whose it is (the label `service`), and where docs/operations.md tells what to do. Since when,
Prometheus and Alertmanager say themselves.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from shared.render.permissions import BEAT, EXPORTER
from shared.spec import ServiceSpec
from shared.topology import BROKER_NODES, PUBLISHERS, REDIS_NODES, SERVICES, UNROUTED_QUEUE, dead_letter_queue

#: Where the runbooks are, before `#section`: a path in this repository, as it has no address that is known here. Where
#: it is published, write the page's URL, and `make topology`.
RUNBOOKS = "docs/operations.md"
#: What the alerts of no single service are filed under.
HOUSE = "house"
#: Seconds of silence of a beat; it looks at its schedule each 10 s at the latest.
BEAT_WITHIN = 60
#: Retried attempts in RETRY_WINDOW that make a storm, if most attempts are. One report that GitHub refuses makes 25.
RETRIES = 30
#: Seconds.
RETRY_WINDOW = 600
#: Seconds for which one dead letter, or one mail held back, is told.
GROWTH_WINDOW = 900
#: Seconds that a container needs to start where the pool was scaled to none.
COLD_START = 180

Severity = Literal["critical", "warning"]


@dataclass(frozen=True)
class Site:
    """Where the rules are for.

    Attributes:
        scaled: whether something scales the pools, down to none where the topology says so.
        namespace: that of our pods; None where Prometheus scrapes nobody else.
        label: what the label `service` says of a service.
        hurry: every span of time is divided by it: tests have no minutes.
    """

    scaled: bool = False
    namespace: str | None = None
    label: Callable[[str], str] = str
    hurry: float = 1.0

    def span(self, seconds: float) -> str:
        """As Prometheus writes it."""
        whole = round(seconds * 1000 / self.hurry)
        for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
            if whole % size == 0 and whole >= size:
                return f"{whole // size}{unit}"
        return f"{whole}ms"

    def number(self, seconds: float) -> str:
        """As a value to compare with."""
        return f"{seconds / self.hurry:g}"

    def up(self, service: str) -> str:
        """The series that says whether a process was scraped."""
        inside = f', namespace="{self.namespace}"' if self.namespace else ""
        return f'up{{service="{self.label(service)}"{inside}}}'

    def may_be_none(self, spec: ServiceSpec) -> bool:
        """Whether a pool without a worker is as it should be, while nothing waits."""
        return self.scaled and spec.scale[0] == 0


HERE = Site()


@dataclass(frozen=True)
class Alert:
    """One alert.

    Attributes:
        name: of it.
        service: whose fault it is, or who suffers.
        expr: PromQL; it fires where this gives something.
        summary: one line: what is stuck.
        description: what that means, with numbers. Prometheus' template.
        runbook: the section's anchor in docs/operations.md.
        wait: for how long it must be so, as Prometheus writes it; empty: at once.
        severity: `critical` where work stands still, or may soon be refused.
    """

    name: str
    service: str
    expr: str
    summary: str
    description: str
    runbook: str
    wait: str = ""
    severity: Severity = "warning"

    def rule(self, site: Site = HERE) -> dict[str, Any]:
        """As a rule file has it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            **({"for": self.wait} if self.wait else {}),
            "labels": {"severity": self.severity, "service": site.label(self.service)},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{RUNBOOKS}#{self.runbook}",
            },
        }


def of_service(spec: ServiceSpec, site: Site = HERE) -> tuple[Alert, ...]:
    """The alerts of one service."""
    name, dead = spec.name, dead_letter_queue(spec.name)
    own = f'service="{site.label(name)}"'
    waiting = _told(f"taskhouse_queue_ready{{queue='{name}'}}", "Messages that wait there")
    idle = f' and on (queue) taskhouse_queue_ready{{queue="{name}"}} > 0' if site.may_be_none(spec) else ""
    retried = f'sum(increase(taskhouse_tasks_total{{{own}, outcome="retried"}}[{site.span(RETRY_WINDOW)}]))'
    ended = f"sum(increase(taskhouse_tasks_total{{{own}}}[{site.span(RETRY_WINDOW)}]))"
    growth = site.span(GROWTH_WINDOW)
    return (
        Alert(
            "NoConsumer",
            name,
            f'taskhouse_queue_consumers{{queue="{name}"}} == 0{idle}',
            f"{name}: nobody takes work from its queue",
            f"The queue {name} has no consumer: no worker of the service runs, or none can consume.{waiting}",
            "no-consumer",
            wait=site.span(COLD_START if idle else 60),
            severity="critical",
        ),
        Alert(
            "WorkerNotConsuming",
            name,
            f"taskhouse_ready{{{own}}} == 0",
            f"{name}: a worker is up and takes no work",
            f"The worker {{{{ $labels.instance }}}} answers, and says on /readyz that it takes nothing.{waiting}",
            "a-worker-that-is-up-and-does-not-consume",
            # One that is told to stop says so too, until what it runs has ended.
            wait=site.span(-(-spec.grace // 60) * 60),
        ),
        Alert(
            "OldestMessageTooOld",
            name,
            f'taskhouse_queue_oldest_seconds{{queue="{name}"}} > {site.number(spec.patience)}',
            f"{name}: its first message waits too long",
            f"It has waited for {{{{ $value | humanizeDuration }}}}; {spec.patience} s are the most that it should. "
            f"The pool is too small, or what its tasks call is slow.{waiting}",
            "the-oldest-message-is-too-old",
        ),
        Alert(
            "DeadLettersGrow",
            name,
            # The one also counts what the broker moved, the other also what was dropped again meanwhile.
            f'sum(delta(taskhouse_queue_ready{{queue="{dead}"}}[{growth}])) > 0'
            f" or sum(increase(taskhouse_dead_letters_total{{{own}}}[{growth}])) > 0",
            f"{name}: work was given up",
            f"Within {growth} the queue {dead} has grown."
            + _told(f"taskhouse_queue_ready{{queue='{dead}'}}", "Dead letters there"),
            "dead-letters-grow",
        ),
        Alert(
            "RetryStorm",
            name,
            f"{retried} > {RETRIES} and {retried} > {ended} / 2",
            f"{name}: most of its attempts are made again",
            f"Within {site.span(RETRY_WINDOW)} {{{{ $value | printf `%.0f` }}}} attempts have failed and are to be "
            "made again: what its tasks call is away, or refuses them.",
            "many-retries",
        ),
        Alert(
            "DelayNotBound",
            name,
            # The exporter tells of it by the service's own name, wherever it is.
            f'taskhouse_delay_bound{{service="{name}"}} == 0',
            f"{name}: delayed messages do not reach its queue",
            f"The queue {name} is not bound to the delays: its retries, and what has a countdown, do not come.",
            "delayed-messages-do-not-arrive",
            wait=site.span(60),
            severity="critical",
        ),
        _not_scraped(name, site, absent=not site.may_be_none(spec)),
    )


def of_house(site: Site = HERE) -> tuple[Alert, ...]:
    """The alerts of what the services stand on."""
    broker, redis = BROKER_NODES[0], REDIS_NODES[0]
    silence = "time() - max(taskhouse_beat_tick_timestamp_seconds)"
    return (
        Alert(
            "BrokerAway",
            broker,
            "taskhouse_broker_up == 0",
            "The broker does not answer",
            "RabbitMQ's management API does not answer the exporter: of queues nothing is known, and no other alert "
            "tells of them. Publishers get an error.",
            "the-broker-does-not-answer",
            wait=site.span(30),
            severity="critical",
        ),
        Alert(
            "BrokerAlarm",
            broker,
            "taskhouse_broker_alarm == 1",
            "The broker takes no message, for want of {{ $labels.kind }}",
            "Publishers get an error within PUBLISH_TIMEOUT; workers go on.",
            "the-broker-has-an-alarm",
            severity="critical",
        ),
        Alert(
            "UnroutedMessage",
            broker,
            f'taskhouse_queue_ready{{queue="{UNROUTED_QUEUE}"}} > 0',
            "A message has no service",
            "Messages of tasks that no queue takes, in the queue unrouted: {{ $value | printf `%.0f` }}.",
            "a-message-without-a-service",
        ),
        Alert(
            "ResultStoreAway",
            redis,
            "min(taskhouse_result_store_up) == 0",
            "The result store does not answer",
            "Redis does not answer the gateway: nobody gets a result, and beat publishes nothing.",
            "the-result-store-is-away",
            wait=site.span(30),
            severity="critical",
        ),
        Alert(
            "BeatSilent",
            BEAT,
            f"{silence} > {site.number(BEAT_WITHIN)} or absent(taskhouse_beat_tick_timestamp_seconds)",
            "Beat has not looked at its schedule",
            f"For more than {site.span(BEAT_WITHIN)} no beat has ticked: what is scheduled is not published.",
            "beat-is-silent",
            wait=site.span(60),
            severity="critical",
        ),
        Alert(
            "MailsHeldBack",
            "mailer",
            f'sum(increase(taskhouse_mails_total{{outcome="held"}}[{site.span(GROWTH_WINDOW)}])) > 0',
            "Error mails are held back: there is a storm of errors",
            f"Within {site.span(GROWTH_WINDOW)} about {{{{ $value | printf `%.0f` }}}} were not sent, because mails of "
            "their kind were. The digest of the hour counts them.",
            "mail-is-held-back",
        ),
        *(_not_scraped(one.name, site) for one in PUBLISHERS),
        _not_scraped(BEAT, site),
        _not_scraped(broker, site),
        _not_scraped(EXPORTER, site, severity="critical", more=" Nobody tells of the queues."),
    )


def groups(services: Iterable[ServiceSpec] = SERVICES, site: Site = HERE) -> dict[str, tuple[Alert, ...]]:
    """All alerts, by what they are filed under: each service, and the house."""
    return {**{spec.name: of_service(spec, site) for spec in services}, HOUSE: of_house(site)}


def rule_file(name: str, alerts: Iterable[Alert], site: Site = HERE) -> str:
    """A file of Prometheus with one group."""
    return yaml.safe_dump({"groups": [group(name, alerts, site)]}, sort_keys=False, width=120)


def group(name: str, alerts: Iterable[Alert], site: Site = HERE) -> dict[str, Any]:
    """A group of rules."""
    return {"name": name, "rules": [alert.rule(site) for alert in alerts]}


def _not_scraped(
    service: str, site: Site, *, absent: bool = True, severity: Severity = "warning", more: str = ""
) -> Alert:
    up = site.up(service)
    return Alert(
        "TargetDown",
        service,
        # A container that is gone is no target any more.
        f"{up} == 0" + (f" or absent({up})" if absent else ""),
        f"{service} does not tell how it is",
        f"Prometheus has no metrics of {{{{ with $labels.instance }}}}{{{{ . }}}}{{{{ else }}}}any container of "
        f"{service}{{{{ end }}}}.{more}",
        "a-process-is-not-scraped",
        wait=site.span(180),
        severity=severity,
    )


def _told(query: str, words: str) -> str:
    """A sentence with a number that Prometheus looks up when the alert fires; nothing where it has none."""
    return f'{{{{ with query "{query}" }}}} {words}: {{{{ . | first | value | printf `%.0f` }}}}.{{{{ end }}}}'
