"""Who may speak to whom, and no one else."""

import ipaddress

import pytest

from shared.render.kubernetes import kubernetes_name
from shared.topology import SERVICES
from tests.k8s.manifests import Json, Manifests, container_of, has_an_app, labels_of, name_of, selects

EVERYTHING = "local with all of these"
#: A Service, a pod, a machine, a cloud's metadata, a carrier's; the same of IPv6.
INSIDE = ("10.96.0.1", "172.18.0.2", "192.168.1.1", "169.254.169.254", "100.64.0.1", "fd00::1", "fe80::1")
POLICED = ("local with network-policies", EVERYTHING, "production")


def rules(made: Manifests, direction: str, pod: dict[str, str]) -> list[Json]:
    """The rules of one direction, `ingress` or `egress`, that hold for a pod with these labels."""
    return [
        rule
        for policy in made.of("NetworkPolicy")
        if selects(policy["spec"]["podSelector"], pod)
        for rule in policy["spec"].get(direction, [])
    ]


def allows(made: Manifests, source: str, target: str, port: int) -> bool:
    """Whether the pods of one workload reach another's port: out of here, and into there."""
    known = {name_of(one): labels_of(one) for one in made.workloads}
    return _opens(rules(made, "egress", known[source]), "to", known[target], port) and _opens(
        rules(made, "ingress", known[target]), "from", known[source], port
    )


def _opens(found: list[Json], key: str, other: dict[str, str], port: int) -> bool:
    return any(
        port in [one["port"] for one in rule.get("ports", [])]
        and (key not in rule or any(selects(peer["podSelector"], other) for peer in rule[key] if "podSelector" in peer))
        for rule in found
    )


@pytest.mark.parametrize("name", POLICED)
def test_nobody_speaks_to_anybody_by_default(combinations: dict[str, Manifests], name: str) -> None:
    made = combinations[name]
    everyone = [policy["spec"] for policy in made.of("NetworkPolicy") if policy["spec"]["podSelector"] == {}]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in everyone
    # Every policy is for pods that are there, or for an operator's: a misspelt label would allow nothing.
    there = [labels_of(one) for one in made.workloads]
    optional = {"mailer-to-mailcatcher", "mailcatcher", "reporter-to-stand-in", "stand-in", "redis"}
    for policy in made.of("NetworkPolicy"):
        found = [one for one in there if selects(policy["spec"]["podSelector"], one)]
        operators = any(name_of(one) == "rabbitmq" for one in made.of("RabbitmqCluster"))
        named = policy["spec"]["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/name")
        assert found or name_of(policy) in optional or (operators and named == "rabbitmq"), name_of(policy)


@pytest.mark.parametrize("name", POLICED)
def test_every_pod_finds_names_and_its_servers(combinations: dict[str, Manifests], name: str) -> None:
    made = combinations[name]
    for workload in made.workloads:
        out = rules(made, "egress", labels_of(workload))
        assert {"protocol": "UDP", "port": 53} in [port for rule in out for port in rule.get("ports", [])]
    if name == "production":
        return
    for workload in made.workloads:
        client = has_an_app(workload)
        for server, port in (("rabbitmq", 5672), ("redis", 6379)):
            assert allows(made, name_of(workload), server, port) == client, name_of(workload)


def test_only_the_mailer_sends_mail_and_only_the_reporter_asks_github(combinations: dict[str, Manifests]) -> None:
    made = combinations[EVERYTHING]
    for workload in made.workloads:
        name, own = name_of(workload), labels_of(workload)
        assert allows(made, name, "mailcatcher", 1025) == (name == "mailer")
        assert allows(made, name, "github", 8080) == (name == "reporter")
        assert allows(made, name, "rabbitmq", 15672) == (name in ("flower", "exporter"))
        outside = {
            port["port"]
            for rule in rules(made, "egress", own)
            for peer in rule.get("to", [])
            if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0"
            for port in rule["ports"]
        }
        shipped = {"mailer": {25, 465, 587}, "reporter": {443}, "webhook": {443}}
        # Of a service that was added, its own word.
        added = {kubernetes_name(spec.name): {int(one.rpartition(":")[2]) for one in spec.egress} for spec in SERVICES}
        assert outside == (added | shipped).get(name, set())


def test_what_is_outside_is_not_inside(combinations: dict[str, Manifests]) -> None:
    made = combinations["local with network-policies"]
    for policy in made.of("NetworkPolicy"):
        if not name_of(policy).endswith("-outside"):
            continue
        for peer in policy["spec"]["egress"][0]["to"]:
            block = ipaddress.ip_network(peer["ipBlock"]["cidr"])
            spared = [ipaddress.ip_network(one) for one in peer["ipBlock"]["except"]]
            for address in (
                "10.96.0.1",
                "172.18.0.2",
                "192.168.1.1",
                "169.254.169.254",
                "100.64.0.1",
                "fd00::1",
                "fe80::1",
            ):
                given = ipaddress.ip_address(address)
                assert given.version != block.version or any(given in one for one in spared), address


@pytest.mark.parametrize("name", POLICED)
def test_what_watches_and_what_scales_gets_in(combinations: dict[str, Manifests], name: str) -> None:
    made = combinations[name]
    monitored = {"app.kubernetes.io/name": "rabbitmq"}
    wanted = {("rabbitmq", "keda", 15672), ("rabbitmq", "monitoring", 15692)}
    wanted |= {(kubernetes_name(spec.name), "monitoring", 9100) for spec in SERVICES}
    found = set()
    for target, namespace, port in wanted:
        pod = monitored if target == "rabbitmq" else labels_of(made.one("Deployment", target))
        label = {"kubernetes.io/metadata.name": namespace}
        for rule in rules(made, "ingress", pod):
            peers = [peer["namespaceSelector"] for peer in rule.get("from", []) if "namespaceSelector" in peer]
            if any(selects(peer, label) for peer in peers) and port in [one["port"] for one in rule["ports"]]:
                found.add((target, namespace, port))
    assert found == wanted


def test_the_ports_of_policies_are_ports_of_pods(combinations: dict[str, Manifests]) -> None:
    made = combinations[EVERYTHING]
    open_ports = {port["containerPort"] for one in made.workloads for port in container_of(one).get("ports", [])}
    for policy in made.of("NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            # 5671 by the component tls; 35672 and on by RabbitMQ's own tools.
            assert {port["port"] for port in rule["ports"]} <= open_ports | {5671, 35672}, name_of(policy)
