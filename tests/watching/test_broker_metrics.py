"""What the broker and its exporter tell of queues."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from shared.broker_api import Api
from shared.topology import SERVICES, dead_letter_queue
from tests.ports import free_port
from tests.waiting import eventually
from tests.watching.house import HOST, QUEUE, House, Metrics

pytestmark = pytest.mark.containers

#: Seconds in which RabbitMQ has counted what was published; this one does each half a second.
STATISTICS = 1.5


@pytest.fixture
def exporter(house: House, tmp_path: Path) -> Iterator[int]:
    """The port of a running one."""
    port = free_port()
    environ = {
        "BROKER_API_URL": f"http://exporter@{house.broker.at(15672)}",
        "BROKER_PASSWORD_FILE": house.broker.password_file("exporter"),
        "BROKER_API_INTERVAL": "0.5",
        "STATUS_PORT": str(port),
        "STATUS_HOST": HOST,
    }
    with (tmp_path / "exporter.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "shared.exporter"], env={**os.environ, **environ}, stdout=log, stderr=log
        )
        yield port
        process.terminate()
        assert process.wait(20) == 0


@pytest.fixture
def settled(house: House) -> None:
    """Nothing was published of late: RabbitMQ's statistics have it all."""
    password = Path(house.broker.password_file("exporter")).read_text().strip()
    api = Api(f"http://exporter:{password}@{house.broker.at(15672)}")
    last, since = -1, time.monotonic()

    def quiet() -> bool:
        nonlocal last, since
        told = sum(queue.get("message_stats", {}).get("publish", 0) for queue in api.get("/queues"))
        if told != last:
            last, since = told, time.monotonic()
        return time.monotonic() - since > STATISTICS

    eventually(quiet, patience=60)


def scrape(port: int) -> Metrics:
    """Nothing, while nobody answers."""
    try:
        with urlopen(f"http://{HOST}:{port}/metrics", timeout=5) as answer:
            return Metrics.read(answer.read().decode())
    except ConnectionError:
        return Metrics({})
    except OSError as error:
        if isinstance(getattr(error, "reason", None), ConnectionRefusedError):
            return Metrics({})
        raise


def test_each_queue_is_told_with_its_depth_and_its_age(house: House, settled: None, exporter: int) -> None:
    # Given no worker, two messages that wait, one that is delayed and one that nobody takes
    eventually(lambda: scrape(exporter)("broker_up") == 1)
    # What came before it looked is not counted.
    before = scrape(exporter)("queue_published_total", queue=QUEUE)
    assert before == 0
    delayed = scrape(exporter)("delayed_messages")
    for _ in range(2):
        house.send("now")
    house.send("now", countdown=3600)
    house.app.send_task("nobody.does_this")
    try:
        # Then each is counted where it is
        eventually(lambda: scrape(exporter)("queue_ready", queue=QUEUE) == 2, patience=60)
        eventually(lambda: scrape(exporter)("delayed_messages") == delayed + 1, patience=60)
        eventually(lambda: scrape(exporter)("queue_ready", queue="unrouted") == 1, patience=60)
        # And the first one grows old
        eventually(lambda: scrape(exporter)("queue_oldest_seconds", queue=QUEUE) >= 3, patience=60)
        metrics = scrape(exporter)
        # Of this queue other tests have published too, and of a channel that was closed RabbitMQ may count late.
        assert metrics("queue_published_total", queue=QUEUE) >= 2
        assert metrics("queue_published_total", queue="unrouted") == 1
        assert metrics("queue_consumers", queue=QUEUE) == 0
        assert {spec.name: 1 for spec in SERVICES} == metrics.all("delay_bound", "service")
        assert metrics.all("broker_alarm", "kind") == {"memory": 0, "disk": 0}
        assert metrics.all("queue_ready", "queue").keys() == {
            "unrouted",
            *(name for spec in SERVICES for name in (spec.name, dead_letter_queue(spec.name))),
        }
    finally:
        with house.app.connection_for_write() as connection:
            connection.default_channel.queue_purge("unrouted")
        house.broker.run("rabbitmqctl", "-q", "purge_queue", "celery_delayed_11")


def test_a_delay_that_leads_nowhere_is_told(house: House, exporter: int) -> None:
    eventually(lambda: scrape(exporter)("delay_bound", service=QUEUE) == 1)
    # When a queue has lost its bindings
    house.broker.run("rabbitmqctl", "-q", "delete_queue", QUEUE)
    # Then that is told, of it alone
    eventually(lambda: scrape(exporter)("delay_bound", service=QUEUE) == 0, patience=60)
    assert scrape(exporter)("delay_bound", service="mailer") == 1
    house.broker.run("rabbitmqctl", "import_definitions", "/run/definitions/definitions.json")
    eventually(lambda: scrape(exporter)("delay_bound", service=QUEUE) == 1, patience=60)


def test_a_broker_that_does_not_answer_is_told_and_nothing_else_of_it(house: House, exporter: int) -> None:
    eventually(lambda: scrape(exporter)("broker_up") == 1)
    house.broker.freeze()
    try:
        eventually(lambda: scrape(exporter)("broker_up") == 0, patience=60)
        assert not scrape(exporter).all("queue_consumers", "queue")
    finally:
        house.broker.thaw()
    eventually(lambda: scrape(exporter)("broker_up") == 1, patience=60)


def test_the_brokers_own_metrics_tell_of_each_queue(house: House) -> None:
    families = "family=queue_coarse_metrics&family=queue_consumer_count"
    with urlopen(f"http://{house.broker.at(15692)}/metrics/detailed?{families}", timeout=10) as answer:
        text = answer.read().decode()
    for name in (QUEUE, "unrouted", "celery_delayed_0"):
        assert f'rabbitmq_detailed_queue_messages_ready{{vhost="/",queue="{name}"}}' in text
