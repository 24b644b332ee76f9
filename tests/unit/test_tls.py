"""How clients ask for TLS."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared import certificates, tls
from shared.app import App
from shared.config import Settings
from shared.errors import ConfigError
from shared.render.cluster import clients
from shared.render.tls import render

MakeApp = Callable[..., App]

ENCRYPTED = {"broker_url": "amqps://reporter@one:5671//", "redis_url": "rediss://reporter@redis:6379/0"}


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    certificates.authority(tmp_path)
    return tmp_path / certificates.CA


def test_each_connection_expects_the_name_of_the_host_that_it_goes_to(make_app: MakeApp, ca: Path) -> None:
    # Given a broker of two nodes
    app = make_app("reporter", **ENCRYPTED, broker_failover="two", tls_ca_file=str(ca))
    first = app.connection_for_write()
    expected = first.hostname
    assert first.ssl["server_hostname"] == expected in ("one", "two")

    # When a connection goes on to the next one
    first.maybe_switch_next()

    # Then it expects the other's name, and new connections that of their own first one
    assert first.ssl["server_hostname"] == first.hostname != expected
    pooled = app.producer_pool.connections.new()
    for connection in (first.clone(), app.connection_for_read(), app.connection(), pooled):
        assert connection.ssl["server_hostname"] == connection.hostname
        assert connection.ssl["cert_reqs"] == ssl.CERT_REQUIRED
        assert connection.ssl["ca_certs"] == str(ca)


def test_the_result_store_and_the_schedule_verify(make_app: MakeApp, ca: Path) -> None:
    app = make_app(**ENCRYPTED, tls_ca_file=str(ca))
    wanted = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, "ssl_ca_certs": str(ca)}
    assert wanted.items() <= app.backend.connparams.items()
    assert app.conf.redbeat_redis_use_ssl == wanted | {"ssl_cert_reqs": "required"}


def test_without_an_authority_the_machines_own_are_trusted(make_app: MakeApp) -> None:
    app = make_app("reporter", **ENCRYPTED)
    assert app.conf.broker_use_ssl == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
    assert "ssl_ca_certs" not in app.backend.connparams
    assert app.backend.connparams["ssl_cert_reqs"] == ssl.CERT_REQUIRED


def test_a_plain_url_asks_for_no_tls(make_app: MakeApp, cluster: dict[str, str]) -> None:
    app = make_app("reporter", **cluster)
    assert not app.conf.broker_use_ssl and not app.conf.redis_backend_use_ssl
    assert not app.connection_for_write().ssl


@pytest.mark.parametrize("options", [tls.broker_options, tls.redis_options])
def test_an_authority_that_cannot_be_read_is_named(options: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"TLS_CA_FILE: cannot read {tmp_path}/none: No such file"):
        options(Settings.model_validate({**ENCRYPTED, "tls_ca_file": tmp_path / "none"}))
    (tmp_path / "text").write_text("no certificate")
    with pytest.raises(ConfigError, match=f"TLS_CA_FILE: {tmp_path}/text is no certificate in PEM form"):
        options(Settings.model_validate({**ENCRYPTED, "tls_ca_file": tmp_path / "text"}))


def test_one_file_gives_every_client_encrypted_urls_and_the_authority() -> None:
    services = yaml.safe_load(render())["services"]
    for name, user in clients().items():
        environment = services[name]["environment"]
        assert environment["BROKER_URL"] == f"amqps://{user}@rabbitmq:5671//"
        assert environment["REDIS_URL"] == f"rediss://{user}@${{REDIS_PRIMARY:-redis}}:6379/0"
        assert environment["TLS_CA_FILE"] == "/run/secrets/ca.pem"
    exporter = services["exporter"]["environment"]
    assert exporter == {"BROKER_API_URL": "https://exporter@rabbitmq:15671", "TLS_CA_FILE": "/run/secrets/ca.pem"}
    # And names no node that only a cluster has
    assert services.keys() == clients().keys() | {"setup", "rabbitmq", "redis", "exporter"}
