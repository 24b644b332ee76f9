"""Grafana's dashboards, as far as they can be read without one."""

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from shared.metrics.declared import METRICS
from shared.metrics.kinds import Histogram
from shared.render.dashboards import grafana
from shared.topology import SERVICES
from tests.missing import missing
from tests.panels import FOLDER, asked, dashboards

DASHBOARDS = dashboards()
ROOT = Path(__file__).parents[2]
each = pytest.mark.parametrize("name", DASHBOARDS)
#: What begins so comes from somebody else: RabbitMQ's plugin, prometheus_client, Prometheus itself.
OTHERS = ("rabbitmq_", "process_", "up")
NAME = re.compile(r"\b(?:taskhouse|rabbitmq|process)_\w+|\bup\b")


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_there_is_an_overview_one_of_the_broker_and_one_a_service() -> None:
    assert DASHBOARDS.keys() == {"overview", "broker", *(f"service-{spec.name}" for spec in SERVICES)}
    uids = [dashboard["uid"] for dashboard in DASHBOARDS.values()]
    assert len(set(uids)) == len(uids)
    assert len({dashboard["title"] for dashboard in DASHBOARDS.values()}) == len(uids)
    # Grafana takes no longer one.
    assert all(re.fullmatch(r"[a-z0-9_-]{1,40}", uid) for uid in uids)


def test_the_overview_has_a_row_a_service() -> None:
    # Given the rows of the overview, each with the panels below it
    rows: dict[str, list[dict[str, Any]]] = {}
    for panel in DASHBOARDS["overview"]["panels"]:
        rows.setdefault(panel["title"], []) if panel["type"] == "row" else rows[list(rows)[-1]].append(panel)
    # Then each service has one, of one line, that leads to its own page
    for spec in SERVICES:
        ours = rows[f"{spec.name}: {spec.summary}"]
        assert [panel["title"] for panel in ours] == ["In", "Out", "Wait", "Run", "Failures", "Pool"]
        assert len({panel["gridPos"]["y"] for panel in ours}) == 1
        assert {link["url"] for panel in ours for link in panel["links"]} == {f"/d/taskhouse-{spec.name}"}


@each
def test_ids_are_unique_and_no_panel_covers_another(name: str) -> None:
    placed = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in placed}) == len(placed)
    places = [panel["gridPos"] for panel in placed]
    for one in places:
        assert one["x"] >= 0 and one["x"] + one["w"] <= grafana.COLUMNS and one["w"] > 0 and one["h"] > 0
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


@each
def test_each_panel_says_what_it_shows_and_in_which_unit(name: str) -> None:
    for panel in panels(DASHBOARDS[name]):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in get_args(grafana.Unit)
        assert panel["targets"]
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(set(legends)) == len(legends) and all(legends)


@each
def test_each_dashboard_leads_to_the_others_and_to_the_pages_beside(name: str) -> None:
    dashboard = DASHBOARDS[name]
    (others,) = [link for link in dashboard["links"] if link["type"] == "dashboards"]
    assert all(set(others["tags"]) <= set(one["tags"]) for one in DASHBOARDS.values())
    assert {link["title"] for link in dashboard["links"] if link["type"] == "link"} == {"Gateway", "Flower"}
    # And a link within the house leads somewhere
    known = {f"/d/{one['uid']}" for one in DASHBOARDS.values()}
    assert {link["url"] for panel in panels(dashboard) for link in panel["links"]} <= known


def test_they_ask_the_source_that_is_provisioned() -> None:
    provisioned = ROOT / "compose" / "grafana" / "provisioning" / "datasources" / "prometheus.yaml"
    known = {source["uid"]: source["type"] for source in yaml.safe_load(provisioned.read_text())["datasources"]}
    text = json.dumps(DASHBOARDS)
    assert set(re.findall(r'"datasource": \{"type": "(\w+)", "uid": "(\w+)"\}', text)) == {("prometheus", "prometheus")}
    assert known["prometheus"] == "prometheus"


def test_what_they_ask_for_is_counted_by_somebody() -> None:
    ours = {
        name
        for metric in METRICS
        for name in (
            [f"{metric.name}_bucket", f"{metric.name}_sum", f"{metric.name}_count"]
            if isinstance(metric, Histogram)
            else [metric.name]
        )
    }
    for query in asked():
        names = NAME.findall(query.expression)
        assert names, query
        assert all(name in ours or name.startswith(OTHERS) for name in names), query


def test_prometheus_can_read_every_query(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        missing("promtool is not installed: apt-get install prometheus")
    # Given a file of rules with each query as one
    rules = [{"record": f"query_{number}", "expr": query.expression} for number, query in enumerate(asked())]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    # Then promtool takes it
    done = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_the_folder_holds_nothing_that_is_not_rendered() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {"README.md", *(f"{name}.json" for name in DASHBOARDS)}
