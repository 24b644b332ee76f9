"""What each alert sees when it must fire, and what it sees when it must not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from shared.render import alerts
from shared.spec import ServiceSpec
from shared.topology import PUBLISHERS, SERVICES

#: Samples a minute: a series is written for each 15 s.
INTERVAL = 15


def minutes(count: float) -> int:
    """Samples in so many minutes."""
    return round(count * 60 / INTERVAL)


def steady(value: float, count: float = 30) -> str:
    """The same for `count` minutes."""
    return f"{value:g}x{minutes(count)}"


def then(first: float, second: float, after: float = 10) -> str:
    """The one, and after some minutes the other."""
    return f"{first:g}x{minutes(after) - 1} {second:g}x{minutes(20)}"


def rising(each_minute: float, count: float = 30) -> str:
    """A counter."""
    return f"0+{each_minute * INTERVAL / 60:g}x{minutes(count)}"


@dataclass(frozen=True)
class Case:
    """Some series, and what becomes of an alert.

    Attributes:
        alert: its name.
        service: whose it is.
        about: what this is, in words.
        series: as promtool writes them.
        at: seconds after which it is asked.
        fires: whether it does.
        scaled: as `alerts.Site` has it.
    """

    alert: str
    service: str
    about: str
    series: Mapping[str, str]
    at: int
    fires: bool
    scaled: bool = False

    def __str__(self) -> str:
        return f"{self.service}-{self.alert}-{self.about.replace(' ', '-')}"


def of_service(spec: ServiceSpec) -> Iterator[Case]:
    """Of one service."""
    name = spec.name
    consumers = f'taskhouse_queue_consumers{{queue="{name}"}}'
    ready = f'taskhouse_queue_ready{{queue="{name}"}}'
    dead = f'taskhouse_queue_ready{{queue="{name}.dead"}}'
    letters = f'taskhouse_dead_letters_total{{service="{name}", instance="a:9100", reason="failure", told="yes"}}'
    worker = f'taskhouse_ready{{service="{name}", instance="a:9100"}}'
    oldest = f'taskhouse_queue_oldest_seconds{{queue="{name}"}}'
    bound = f'taskhouse_delay_bound{{service="{name}"}}'
    up = f'up{{service="{name}", instance="a:9100", job="processes"}}'

    def ended(outcome: str) -> str:
        return f'taskhouse_tasks_total{{service="{name}", instance="a:9100", task="{name}.x", outcome="{outcome}"}}'

    def case(alert: str, about: str, series: dict[str, str], at: int, fires: bool, scaled: bool = False) -> Case:
        return Case(alert, name, about, series, at, fires, scaled)

    gone = {consumers: then(1, 0), ready: steady(3)}
    yield case("NoConsumer", "its last worker is gone", gone, 11 * 60 + 30, True)
    yield case("NoConsumer", "a new one comes in time", gone, 10 * 60 + 30, False)
    yield case("NoConsumer", "it has one", {consumers: steady(1), ready: steady(3)}, 1200, False)
    yield case(
        "NoConsumer", "another service has none", {'taskhouse_queue_consumers{queue="x"}': steady(0)}, 1200, False
    )
    if spec.scale[0] == 0:
        idle = {consumers: steady(0), ready: steady(0)}
        yield case("NoConsumer", "scaled to none and nothing waits", idle, 1200, False, True)
        yield case("NoConsumer", "scaled to none and nobody comes", gone, 10 * 60 + 270, True, True)
        yield case("TargetDown", "scaled to none", {'up{service="x"}': steady(1)}, 1200, False, True)

    stuck = {worker: then(1, 0)}
    yield case("WorkerNotConsuming", "it stays so", stuck, 600 + 120 + spec.grace, True)
    yield case("WorkerNotConsuming", "it is stopping", stuck, 600 + spec.grace - 15, False)
    yield case("WorkerNotConsuming", "it consumes", {worker: steady(1)}, 1200, False)

    yield case("OldestMessageTooOld", "it waits", {oldest: f"0+15x{minutes(30)}"}, spec.patience + 30, True)
    yield case("OldestMessageTooOld", "it has patience", {oldest: f"0+15x{minutes(30)}"}, spec.patience - 15, False)
    yield case("OldestMessageTooOld", "each is taken", {oldest: steady(0)}, 1200, False)

    yield case("DeadLettersGrow", "one more", {dead: then(4, 5)}, 11 * 60, True)
    yield case("DeadLettersGrow", "told and dropped at once", {dead: steady(0), letters: then(0, 1)}, 11 * 60, True)
    yield case("DeadLettersGrow", "old ones stay", {dead: steady(5), letters: steady(5)}, 1200, False)
    yield case("DeadLettersGrow", "an operator drops them", {dead: then(5, 0), letters: steady(5)}, 11 * 60, False)

    storm = {ended("retried"): rising(60), ended("succeeded"): rising(20)}
    most_succeed = {ended("retried"): rising(20), ended("succeeded"): rising(60)}
    few = {ended("retried"): rising(2), ended("succeeded"): rising(0)}
    yield case("RetryStorm", "most attempts fail", storm, 900, True)
    yield case("RetryStorm", "most succeed", most_succeed, 900, False)
    yield case("RetryStorm", "they are few", few, 900, False)

    yield case("DelayNotBound", "it is not", {bound: then(1, 0)}, 11 * 60 + 30, True)
    yield case("DelayNotBound", "it is", {bound: steady(1)}, 1200, False)
    yield case("DelayNotBound", "nobody knows", {bound: f"1x4 stale _x{minutes(20)}"}, 1200, False)

    yield from not_scraped(name, up)


def of_house() -> Iterator[Case]:
    """Of what the services stand on."""
    alarm = 'taskhouse_broker_alarm{kind="memory"}'
    held = 'taskhouse_mails_total{service="mailer", instance="a:9100", kind="error", outcome="held"}'
    sent = held.replace("held", "sent")
    unrouted = 'taskhouse_queue_ready{queue="unrouted"}'
    tick = 'taskhouse_beat_tick_timestamp_seconds{service="beat", instance="a:9100"}'
    other = tick.replace("a:9100", "b:9100")

    def store(instance: str) -> str:
        return f'taskhouse_result_store_up{{service="gateway", instance="{instance}"}}'

    def case(alert: str, service: str, about: str, series: dict[str, str], at: int, fires: bool) -> Case:
        return Case(alert, service, about, series, at, fires)

    yield case("BrokerAway", "rabbitmq", "it is", {"taskhouse_broker_up": then(1, 0)}, 11 * 60, True)
    yield case("BrokerAway", "rabbitmq", "one look failed", {"taskhouse_broker_up": "1x9 0 1x99"}, 165, False)
    yield case("BrokerAlarm", "rabbitmq", "memory", {alarm: then(0, 1)}, 11 * 60, True)
    yield case("BrokerAlarm", "rabbitmq", "disk", {alarm.replace("memory", "disk"): then(0, 1)}, 11 * 60, True)
    yield case("BrokerAlarm", "rabbitmq", "it has gone again", {alarm: then(1, 0)}, 11 * 60, False)
    yield case("UnroutedMessage", "rabbitmq", "there is one", {unrouted: then(0, 1)}, 11 * 60, True)
    yield case("UnroutedMessage", "rabbitmq", "there is none", {unrouted: steady(0)}, 1200, False)
    yield case("ResultStoreAway", "redis", "it is", {store("a"): then(1, 0)}, 11 * 60, True)
    yield case("ResultStoreAway", "redis", "to one of two", {store("a"): then(1, 0), store("b"): steady(1)}, 660, True)
    yield case("ResultStoreAway", "redis", "it answers", {store("a"): steady(1)}, 1200, False)
    # promtool's clock begins at 0: a beat that ticks tells of the time that it is.
    yield case("BeatSilent", "beat", "it stands still", {tick: f"0+15x{minutes(5)} 300x99"}, 300 + 150, True)
    yield case("BeatSilent", "beat", "it is gone", {tick: f"0+15x{minutes(5)} stale"}, 300 + 120, True)
    yield case("BeatSilent", "beat", "it ticks", {tick: f"0+15x{minutes(30)}"}, 1200, False)
    waits = {tick: f"0+15x{minutes(5)} 300x99", other: f"0+15x{minutes(30)}"}
    yield case("BeatSilent", "beat", "another one has taken over", waits, 900, False)
    yield case("MailsHeldBack", "mailer", "a storm", {held: then(0, 40)}, 11 * 60, True)
    yield case("MailsHeldBack", "mailer", "it is over", {held: f"0x3 40x{minutes(30)}"}, 1800, False)
    yield case("MailsHeldBack", "mailer", "mails are sent", {held: steady(7), sent: rising(60)}, 1200, False)
    for name in (*(one.name for one in PUBLISHERS), "beat", "exporter"):
        yield from not_scraped(name, f'up{{service="{name}", instance="a:9100", job="processes"}}')
    yield from not_scraped("rabbitmq", 'up{service="rabbitmq", instance="a:15692", job="broker"}')


def not_scraped(name: str, up: str) -> Iterator[Case]:
    """Of a process that is scraped, or not."""
    other = up.replace("a:", "b:")
    yield Case("TargetDown", name, "no answer", {up: then(1, 0)}, 14 * 60, True)
    yield Case("TargetDown", name, "one of two", {up: then(1, 0), other: steady(1)}, 14 * 60, True)
    yield Case("TargetDown", name, "no container", {up: "1x39 stale"}, 14 * 60, True)
    yield Case("TargetDown", name, "one of two scaled away", {up: "1x39 stale", other: steady(1)}, 14 * 60, False)
    yield Case("TargetDown", name, "a restart", {up: f"1x39 0x4 1x{minutes(20)}"}, 12 * 60, False)


CASES = [*(case for spec in SERVICES for case in of_service(spec)), *of_house()]
EVERY_ALERT = {(alert.name, alert.service) for found in alerts.groups().values() for alert in found}
