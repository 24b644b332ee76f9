"""The rules, as Prometheus' own tools judge them: each alert on its fault, and without it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.render import alerts
from shared.topology import SERVICES
from tests.alerts.cases import CASES, EVERY_ALERT, INTERVAL, Case
from tests.alerts.tools import run

ROOT = Path(__file__).parents[2]
#: The files of rules, by whether something scales the pools.
RULES = {
    site.scaled: {name: alerts.rule_file(name, found, site) for name, found in alerts.groups(SERVICES, site).items()}
    for site in (alerts.HERE, alerts.Site(scaled=True))
}
OF_SERVICES = {alert.name for alert in alerts.of_service(SERVICES[0])}


def judged(cases: Iterable[Case], folder: Path) -> None:
    """Have promtool play them, each with the rules of its own service."""
    files = []
    for number, case in enumerate(cases):
        name = case.service if case.service in RULES[case.scaled] and case.alert in OF_SERVICES else alerts.HOUSE
        rules, test = folder / f"{name}-{case.scaled}.yml", folder / f"test-{number}.yml"
        rules.write_text(RULES[case.scaled][name])
        test.write_text(yaml.safe_dump(_test(case, rules.name), sort_keys=False))
        files.append(test)
    run("promtool", "test", "rules", *files)


def _test(case: Case, rules: str) -> dict[str, Any]:
    fires = f'count(ALERTS{{alertname="{case.alert}", service="{case.service}", alertstate="firing"}}) > bool 0'
    # What fires is a series too; so a test need not repeat each word of a description.
    expected = {"expr": fires, "eval_time": f"{case.at}s"}
    test = {
        "name": str(case),
        "interval": f"{INTERVAL}s",
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "promql_expr_test": [
            expected | ({"exp_samples": [{"labels": "{}", "value": 1}]} if case.fires else {}),
        ],
    }
    return {"rule_files": [rules], "evaluation_interval": f"{INTERVAL}s", "tests": [test]}


@pytest.mark.parametrize("alert", sorted({case.alert for case in CASES}))
@pytest.mark.parametrize("fires", [True, False], ids=["fires", "does not fire"])
def test_an_alert_fires_on_its_fault_and_on_nothing_else(alert: str, fires: bool, tmp_path: Path) -> None:
    judged([case for case in CASES if (case.alert, case.fires) == (alert, fires)], tmp_path)


def test_every_alert_is_tried_both_ways() -> None:
    for fires in (True, False):
        assert {(case.alert, case.service) for case in CASES if case.fires == fires} == EVERY_ALERT


def test_a_wrong_expectation_would_be_found(tmp_path: Path) -> None:
    # Given a case that says the opposite of what is so
    case = next(one for one in CASES if one.fires)
    wrong = Case(case.alert, case.service, "wrong", case.series, case.at, not case.fires)
    # Then it is not passed over
    with pytest.raises(AssertionError, match="FAILED"):
        judged([wrong], tmp_path)


def test_what_compose_gives_prometheus_is_in_order() -> None:
    # Given the committed files, where their container has them
    said = run("promtool", "check", "config", "compose/prometheus/prometheus.yml", cwd=ROOT)
    assert said.count("rules found") == len(alerts.groups())
    run("amtool", "check-config", "alertmanager.yml", cwd=ROOT / "compose" / "alertmanager")
