"""The profile `monitoring` as it is shipped: who is scraped, who is mailed, and who may look."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from shared.render import alerts
from shared.topology import PUBLISHERS, SERVICES
from tests.e2e.houses import ComposeHouse
from tests.e2e.test_cluster import until

pytestmark = pytest.mark.containers

ROOT = Path(__file__).parents[2]
#: Grafana's image is not to be had everywhere: what is said of it is checked below, and it is not started.
STARTED = ("exporter", "prometheus", "alertmanager")
#: Prometheus looks for new containers each 15 s.
FOUND_WITHIN = 60.0


def ask(compose: ComposeHouse, what: str) -> Any:
    """Prometheus' API."""
    return httpx.get(f"http://127.0.0.1:{compose.ports['PROMETHEUS_PORT']}/api/v1/{what}").json()["data"]


def scraped(compose: ComposeHouse) -> dict[str, int]:
    """How many addresses of each service answer a scrape."""
    found: dict[str, int] = {}
    for target in ask(compose, "targets")["activeTargets"]:
        if target["health"] == "up" and target["labels"]["job"] != "queues":
            found[target["labels"]["service"]] = found.get(target["labels"]["service"], 0) + 1
    return found


def told_of(compose: ComposeHouse) -> set[str]:
    """The services of which the exporter says whether their delays are bound."""
    bound = ask(compose, "query?query=taskhouse_delay_bound")["result"]
    return {one["metric"]["service"] for one in bound}


def mailed(compose: ComposeHouse) -> list[str]:
    """The text of each mail of Alertmanager."""
    mails = httpx.get(f"http://127.0.0.1:{compose.ports['MAIL_PORT']}/email").json()
    return [one["text"] for one in mails if one["from"][0]["address"] == "alerts@localhost"]


def test_each_container_is_scraped_and_an_alert_is_mailed(compose: ComposeHouse) -> None:
    profile = ("--profile", "monitoring")
    try:
        # Given the profile, beside a pool of two
        scale = ("--no-recreate", "--scale", "calculator=2")
        up = compose.compose(*profile, "up", "-d", "--wait", "--no-deps", *scale, *STARTED, "calculator")
        assert up.returncode == 0, up.stderr
        # When an alert fires
        alert = alerts.of_house()[0].rule()
        url = f"http://127.0.0.1:{compose.ports['ALERTMANAGER_PORT']}/api/v2/alerts"
        labels = alert["labels"] | {"alertname": alert["alert"]}
        assert httpx.post(url, json=[{"labels": labels, "annotations": alert["annotations"]}]).is_success
        # Then every container is scraped under its service's name, each of a pool's too
        services = [*(spec.name for spec in SERVICES), *(spec.name for spec in PUBLISHERS)]
        everyone = dict.fromkeys([*services, "beat", "exporter", "rabbitmq"], 1)
        until("all are scraped", lambda: scraped(compose) == everyone | {"calculator": 2}, FOUND_WITHIN)
        depths = "query?query=count(rabbitmq_detailed_queue_messages_ready)"
        until("the queues' depths are there", lambda: len(ask(compose, depths)["result"]) == 1, FOUND_WITHIN)
        # And what the exporter tells of a service has that service's name
        until("each delay is told of", lambda: told_of(compose) == {spec.name for spec in SERVICES}, FOUND_WITHIN)
        # And every rule is looked at, and Alertmanager is told
        until("the rules are well", lambda: rules(compose) == {"ok": sum(map(len, alerts.groups().values()))})
        until("Alertmanager is found", lambda: len(ask(compose, "alertmanagers")["activeAlertmanagers"]) == 1)
        # And nobody but this machine reaches their ports
        for name in STARTED:
            (container,) = compose.containers(name)
            host = container["HostConfig"]
            assert host["ReadonlyRootfs"] is True and host["CapDrop"] == ["ALL"], name
            for bindings in (host["PortBindings"] or {}).values():
                assert {one["HostIp"] for one in bindings} == {"127.0.0.1"}, name
        # And the mail has come
        until("the mail has come", lambda: any("#the-broker-does-not-answer" in text for text in mailed(compose)))
        # And a container that is scaled away is forgotten
        compose.compose("up", "-d", "--no-deps", "--no-recreate", "--scale", "calculator=1", "calculator")
        until("one is left", lambda: scraped(compose) == everyone, FOUND_WITHIN)
    finally:
        compose.compose("up", "-d", "--wait", "--no-deps", "--no-recreate", "--scale", "calculator=1", "calculator")
        compose.compose(*profile, "rm", "-sfv", *STARTED)


def rules(compose: ComposeHouse) -> dict[str, int]:
    """How many rules there are, by how they are."""
    found: dict[str, int] = {}
    for group in ask(compose, "rules")["groups"]:
        for rule in group["rules"]:
            found[rule["health"]] = found.get(rule["health"], 0) + 1
    return found


def test_grafana_shows_what_is_provisioned_to_whoever_has_the_password(compose: ComposeHouse) -> None:
    # Given what compose would start
    shown = compose.compose("--profile", "monitoring", "config", "--format", "json")
    assert shown.returncode == 0, shown.stderr
    services = json.loads(shown.stdout)["services"]
    grafana = services["grafana"]
    # Then its password is in a file that it alone sees, and the setup has made it
    environment = grafana["environment"]
    assert environment["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/admin-password"
    assert "GF_SECURITY_ADMIN_PASSWORD" not in environment and environment["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    holders = [name for name, one in services.items() if "secrets-grafana" in json.dumps(one.get("volumes", []))]
    assert sorted(holders) == ["grafana", "setup"]
    assert len(compose.passwords()["grafana"]) >= 32
    # And it is shut in as the others are
    assert grafana["read_only"] is True and grafana["cap_drop"] == ["ALL"]
    assert [port["host_ip"] for port in grafana["ports"]] == ["127.0.0.1"]
    # And its data come from that Prometheus, its dashboards from the folder that is mounted
    provisioning = ROOT / "compose" / "grafana" / "provisioning"
    (source, _) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090" and "prometheus" in services
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "taskhouse.yaml").read_text())["providers"]
    assert provider["options"]["path"] in {volume["target"] for volume in grafana["volumes"]}
