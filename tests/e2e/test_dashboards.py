"""Every query of every dashboard has an answer, in a Prometheus that scrapes the running cluster."""

import math
import os
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from shared.render import prometheus
from shared.topology import SERVICES, dead_letter_queue
from tests.e2e.houses import ComposeHouse, report
from tests.e2e.test_cluster import until
from tests.e2e.test_mail import Inbox
from tests.panels import Asked, asked

pytestmark = pytest.mark.containers

TIMEOUT = 10
#: Seconds between two scrapes, in place of the shipped ones: a rate needs two, and a person has more time.
HURRY = 2
#: Seconds in which all is scraped, and looked at by the exporter, which does so each 10 s.
PATIENCE = 90
#: No task of the service is ever tried again, so nothing but this is missing: its query is that of every other service.
NEVER = [("service-scoped", "Trouble", "Retries")]
#: Each service does something, something wrong, and something that it tries again; and takes a message that was given
#: back once.
WORK = """
import time
import uuid
from shared.app import app
from shared.signatures import all, calculator, mailer, scoped, webhook
from shared.topology import SERVICES

names = [spec.name for spec in SERVICES]
calculator.unsteady(1).apply_async()
scoped.notify("ann@example.org", "quota_low", left=3, until="2026-12-01").apply_async()
# The mail catcher is away; what the webhook is to tell of is not there yet.
mailer.send_email(["ann@example.org"], "A mail that waited", "text").apply_async()
later = str(uuid.uuid4())
webhook.deliver(later, "https://example.org/").apply_async()
for name in ("reporter.fetch_repos", "calculator.add", "mailer.send_email", "scoped.read_scenario", "webhook.deliver"):
    app.send_task(name, kwargs={"nonsense": 1})

for name in names:
    app.control.cancel_consumer(name)
with app.connection_for_write() as connection:
    channel = connection.default_channel
    waits = lambda name: channel.queue_declare(name, passive=True)
    deadline = time.monotonic() + 30
    while any(waits(name).consumer_count for name in names):
        assert time.monotonic() < deadline, "a consumer stays"
        time.sleep(0.05)
    all.ping().apply_async()
    for name in names:
        while (message := channel.basic_get(name)) is None:
            assert time.monotonic() < deadline, "the ping does not come"
            time.sleep(0.05)
        channel.basic_reject(message.delivery_tag, requeue=True)
for name in names:
    app.control.add_consumer(name)
# Now it is, and the webhook gives up, because nobody has allowed that host.
calculator.add(2, 3).apply_async(task_id=later)
"""


class Monitor:
    """A Prometheus that is asked."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/query"

    def values(self, expression: str) -> list[float]:
        """Of the series that a query gives now."""
        answer = requests.post(self._url, data={"query": expression}, timeout=TIMEOUT).json()
        assert answer["status"] == "success", (expression, answer)
        return [float(series["value"][1]) for series in answer["data"]["result"]]

    def without(self, queries: list[Asked], good: Callable[[list[float]], Any]) -> list[str]:
        """Those queries whose answer is not good."""
        return [str(query) for query in queries if not good(self.values(query.expression))]


@pytest.fixture
def monitor(compose: ComposeHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitor]:
    """Prometheus with the shipped configuration, in a hurry and without rules; and the exporter."""
    folder = tmp_path / "prometheus"
    folder.mkdir(mode=0o755)
    shipped = yaml.safe_load(prometheus.render())
    interval = f"{HURRY}s"
    hurried = shipped | {"global": {"scrape_interval": interval, "scrape_timeout": interval}, "rule_files": []}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(hurried))
    override = tmp_path / "hurry.yaml"
    override.write_text(
        textwrap.dedent(f"""\
            services:
              prometheus: {{volumes: ["{folder}:/etc/prometheus:ro"]}}
              exporter: {{environment: {{BROKER_API_INTERVAL: "{HURRY}"}}}}
        """)
    )
    monkeypatch.setenv("COMPOSE_FILE", f"{os.environ['COMPOSE_FILE']}:{override}")
    names = ("prometheus", "exporter")
    started = compose.compose("--profile", "monitoring", "up", "-d", "--wait", "--no-deps", *names)
    try:
        assert started.returncode == 0, started.stderr
        yield Monitor(compose.ports["PROMETHEUS_PORT"])
    finally:
        compose.compose("--profile", "monitoring", "rm", "-sfv", *names)


def _finite(values: list[float]) -> bool:
    return any(map(math.isfinite, values))


def test_every_query_of_every_dashboard_has_an_answer(compose: ComposeHouse, monitor: Monitor) -> None:
    queries = [query for query in asked() if (query.dashboard, query.row, query.panel) not in NEVER]
    assert len(queries) > 200
    # Given a cluster in which each service has worked, failed, tried again and taken what was given back
    compose.github.fault("server_error_500", page=3, times=1)
    assert compose.compose("stop", "mailcatcher").returncode == 0
    try:
        report(compose, "--period", "week", "--refresh")
        worked = compose.publisher(WORK)
        assert worked.returncode == 0, worked.stderr
        until(
            "the mailer tries again",
            lambda: monitor.values('taskhouse_task_retries_total{service="mailer"}'),
            PATIENCE,
        )
    finally:
        assert compose.compose("start", "mailcatcher").returncode == 0
    # And which goes on to work, so that rates are of something
    until("there are series for all", lambda: not (left := monitor.without(queries, bool)) or print(left), PATIENCE)
    report(compose, "--period", "week", "--refresh")

    def numbers() -> bool:
        if left := monitor.without(queries, _finite):
            print(left)
            assert compose.celery("ping").returncode == 0
        return not left

    # Then each has an answer that is a number
    until("all are numbers", numbers, PATIENCE)
    # And none where its metric has another name: an answer says something
    for query in queries:
        renamed = re.sub(r"\b(taskhouse|rabbitmq|process)_", r"\1s_", query.expression)
        assert renamed == query.expression or monitor.values(renamed) == [], query

    # And nothing of it is left for others
    Inbox(compose.ports["MAIL_PORT"]).wait(lambda mail: mail["subject"] == "A mail that waited")
    until("the webhook has given up", lambda: compose.messages("webhook.dead") >= 2)
    for spec in SERVICES:
        queue = dead_letter_queue(spec.name)
        assert compose.compose("exec", "-T", "rabbitmq", "rabbitmqctl", "purge_queue", queue).returncode == 0


def test_a_query_that_is_left_out_is_that_of_the_other_services() -> None:
    found = {(one.dashboard, one.row, one.panel): one.expression for one in asked()}
    for dashboard, row, panel in NEVER:
        name = dashboard.removeprefix("service-")
        assert found[dashboard, row, panel].replace(name, "mailer") == found["service-mailer", row, panel]
