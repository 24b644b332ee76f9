"""Each alert fires on its fault in a real run: real processes, a real broker, Prometheus and Alertmanager. Only time is
another: what takes a minute takes two seconds."""

import os
import re
import signal
from collections.abc import Iterator

import httpx
import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from shared.config import Settings
from shared.render import alerts
from tests.alerts.house import HURRY, SERVICES, WatchedHouse
from tests.servers import OwnBroker, OwnRedis
from tests.waiting import eventually

pytestmark = pytest.mark.containers
#: What the tests of this module have seen firing.
SEEN: set[str] = set()


@pytest.fixture(scope="module")
def mail() -> Iterator[tuple[int, int]]:
    """Ports of a mail catcher: of SMTP, and of its page."""
    testcontainers_config.ryuk_disabled = True
    container = DockerContainer("maildev/maildev:2.2.1").with_exposed_ports(1025, 1080)
    with container:
        smtp, page = (int(container.get_exposed_port(port)) for port in (1025, 1080))

        def answers() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{page}/healthz").is_success
            except httpx.TransportError:
                return False

        eventually(answers)
        yield smtp, page


@pytest.fixture(scope="module")
def house(
    broker: OwnBroker, redis_server: OwnRedis, mail: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WatchedHouse]:
    """Everything is well."""
    patch = pytest.MonkeyPatch()
    for name in list(os.environ):
        if name.removesuffix("_FILE").lower() in Settings.model_fields or name.startswith("CELERY_"):
            patch.delenv(name)
    redis_server.client.flushall()
    house = WatchedHouse(broker, redis_server, mail, tmp_path_factory.mktemp("house"))
    try:
        house.start()
        yield house
    finally:
        house.close()
        patch.undo()


def seen(house: WatchedHouse, *wanted: tuple[str, str], patience: float = 60) -> None:
    """They fire, and are counted."""
    house.fires(*wanted, patience=patience)
    SEEN.update(name for name, _ in wanted)


def test_while_all_is_well_nothing_fires(house: WatchedHouse) -> None:
    # Given that all is scraped
    eventually(lambda: all(one["health"] == "up" for one in house.ask("targets")["activeTargets"]))
    # Then every rule has been looked at, and none has anything to say
    eventually(lambda: all(rule["health"] == "ok" for group in house.ask("rules")["groups"] for rule in group["rules"]))
    house.is_quiet()


def test_faults_of_messages_of_mail_and_of_beat(house: WatchedHouse) -> None:
    # When a message has no task, one has no service, tasks fail and fail, and a storm of errors begins
    house.app.send_task("calculator.nothing")
    house.app.send_task("nobody.does_this")
    for _ in range(30):
        house.app.send_task("calculator.again")
    for _ in range(6):
        house.app.send_task(
            "mailer.report_error", kwargs={"subject": "It broke", "message": "...", "fingerprint": "one"}
        )
    # And beat stands still, and delayed mail has lost its way
    house.signal("beat", signal.SIGSTOP)
    house.delays_of("mailer", bound=False)
    # Then an operator is told of each
    try:
        seen(
            house,
            ("DeadLettersGrow", "calculator"),
            ("UnroutedMessage", "rabbitmq"),
            ("RetryStorm", "calculator"),
            ("MailsHeldBack", "mailer"),
            ("BeatSilent", "beat"),
            ("TargetDown", "beat"),
            ("DelayNotBound", "mailer"),
        )
    finally:
        house.signal("beat", signal.SIGCONT)
        house.delays_of("mailer", bound=True)
        house.sweep()


def test_faults_of_workers_and_of_the_broker(house: WatchedHouse) -> None:
    # When somebody takes the worker's consumer away, and work comes
    house.app.control.cancel_consumer("calculator")
    eventually(lambda: ("WorkerNotConsuming", "calculator") in house.alerts())
    house.app.send_task("calculator.add", (2, 3))
    # And the broker has no memory left
    try:
        with house.broker.alarm():
            seen(
                house,
                ("WorkerNotConsuming", "calculator"),
                ("NoConsumer", "calculator"),
                ("OldestMessageTooOld", "calculator"),
                ("BrokerAlarm", "rabbitmq"),
            )
            (told,) = [one for key, one in house.alerts().items() if key[0] == "NoConsumer"]
            assert re.search(r"Messages that wait there: [1-9]\d*\.$", told["annotations"]["description"])
    finally:
        house.app.control.add_consumer("calculator")
    # And no more, when all is mended, of this test and of the one before
    house.is_quiet("NoConsumer", "WorkerNotConsuming", "OldestMessageTooOld", "BrokerAlarm")
    house.is_quiet("UnroutedMessage", "BeatSilent", "TargetDown", "DelayNotBound")


def test_faults_of_servers(house: WatchedHouse) -> None:
    # When neither the broker nor Redis answers
    house.redis.stop()
    house.broker.freeze()
    try:
        # Then that is told
        seen(house, ("ResultStoreAway", "redis"), ("BrokerAway", "rabbitmq"))
    finally:
        house.broker.thaw()
        house.redis.start()
    house.is_quiet("BrokerAway", "ResultStoreAway")


def test_every_alert_has_fired() -> None:
    assert {alert.name for found in alerts.groups(SERVICES, HURRY).values() for alert in found} == SEEN


def test_an_operator_had_mail_of_each_service_with_what_to_do(house: WatchedHouse) -> None:
    def told(service: str, name: str) -> list[str]:
        return [text for subject, text in house.mails() if f"] {service}: " in subject and name in subject]

    # Given what was mailed while it fired
    eventually(lambda: bool(told("calculator", "NoConsumer") and told("redis", "ResultStoreAway")))
    # Then each mail is of one service, and says what is stuck, since when, and what to do
    text = told("calculator", "NoConsumer")[0]
    assert "calculator: nobody takes work from its queue" in text
    assert "NoConsumer, critical, since 20" in text
    assert "What to do: docs/operations.md#no-consumer" in text
    assert not [text for subject, text in house.mails() if "] calculator: " in subject and "beat" in text]
