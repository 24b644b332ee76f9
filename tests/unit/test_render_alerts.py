"""The alerts that follow from the topology, and the page that lists them."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from shared.render import alerts, prometheus
from shared.spec import ServiceSpec
from shared.topology import SERVICES, service

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


def rule(name: str, spec: ServiceSpec, site: alerts.Site = alerts.HERE) -> alerts.Alert:
    (found,) = [one for one in alerts.of_service(spec, site) if one.name == name]
    return found


def test_the_page_lists_every_alert_and_no_other() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (critical|warning)[^|]*\|[^|]*\| \[([\w-]+)\]\(operations.md#([\w-]+)\) \|$", PAGE, re.M
    )
    assert all(shown == anchor for *_, shown, anchor in rows)
    found = [one for group in alerts.groups().values() for one in group if one.service != "exporter"]
    assert {row[:3] for row in rows} == {(one.name, one.severity, one.runbook) for one in found}


@pytest.mark.parametrize(
    ("seconds", "hurry", "said"), [(60, 1, "1m"), (90, 1, "90s"), (3600, 1, "1h"), (60, 30, "2s"), (45, 30, "1500ms")]
)
def test_a_span_of_time_is_written_as_prometheus_reads_it(seconds: float, hurry: float, said: str) -> None:
    assert alerts.Site(hurry=hurry).span(seconds) == said


def test_a_new_service_has_every_alert_with_thresholds_of_its_own() -> None:
    # Given a service more, slower than the others
    sculptor = replace(service("calculator"), name="sculptor", time_limit=600, soft_time_limit=500, patience=1800)
    found = alerts.groups((*SERVICES, sculptor))["sculptor"]
    # Then it has the alerts of a service
    assert [one.name for one in found] == [one.name for one in alerts.of_service(SERVICES[0])]
    # And they wait for as long as it may
    assert rule("OldestMessageTooOld", sculptor).expr.endswith("> 1800")
    assert rule("WorkerNotConsuming", sculptor).wait == "13m"
    assert sculptor.grace <= 13 * 60
    # And it is scraped
    (job, *_) = yaml.safe_load(prometheus.render((sculptor,)))["scrape_configs"]
    assert "sculptor" in job["dns_sd_configs"][0]["names"]


def test_only_where_something_scales_a_pool_to_none_may_it_be_missing() -> None:
    scaled = alerts.Site(scaled=True)
    assert "queue_ready" in rule("NoConsumer", service("reporter"), scaled).expr
    # The mailer is never scaled to none.
    assert rule("NoConsumer", service("mailer"), scaled).expr == rule("NoConsumer", service("mailer")).expr
    assert "absent" not in rule("TargetDown", service("reporter"), scaled).expr


def test_an_alert_leads_to_a_section_of_the_runbooks(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given that the page has an address
    monkeypatch.setattr(alerts, "RUNBOOKS", "https://example.org/operations")
    # Then the links go there
    assert rule("NoConsumer", SERVICES[0]).rule()["annotations"]["runbook_url"] == (
        "https://example.org/operations#no-consumer"
    )
