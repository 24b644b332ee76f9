"""The authority, and the servers' certificates: made once, verified by name, made anew in time."""

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared import certificates, setup
from shared.certificates import RENEW_BEFORE, SERVER_LIFE

HOSTS = ("rabbitmq", "rabbitmq-2", "127.0.0.1")


def handshake(server: Path, ca: Path, host: str) -> None:
    """Connect a client that verifies as ours do. Raises ssl.SSLCertVerificationError."""
    listening, asking = socket.socketpair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server / certificates.CERTIFICATE, server / certificates.KEY)

    def answer() -> None:
        try:
            context.wrap_socket(listening, server_side=True).close()
        except (ssl.SSLError, OSError):
            listening.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        ssl.create_default_context(cafile=ca).wrap_socket(asking, server_hostname=host).close()
    finally:
        asking.close()
        thread.join()


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    """A server's folder."""
    assert certificates.server(tmp_path / "rabbitmq", HOSTS, certificates.authority(tmp_path / "authority"))
    return tmp_path / "rabbitmq"


@pytest.mark.parametrize("host", HOSTS)
def test_a_client_verifies_each_name(signed: Path, host: str) -> None:
    handshake(signed, signed / certificates.CA, host)


def test_a_client_refuses_another_name(signed: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(signed, signed / certificates.CA, "redis")


def test_a_client_of_another_authority_refuses(signed: Path, tmp_path: Path) -> None:
    certificates.authority(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        handshake(signed, tmp_path / "other" / certificates.CA, "rabbitmq")


def test_what_is_there_is_kept(signed: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert not certificates.server(signed, reversed(HOSTS), certificates.authority(tmp_path / "authority"))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_what_is_about_to_expire_is_made_anew(signed: Path, tmp_path: Path) -> None:
    signer = certificates.authority(tmp_path / "authority")
    renewal = datetime.now(UTC) + SERVER_LIFE - RENEW_BEFORE
    assert not certificates.server(signed, HOSTS, signer, now=renewal - timedelta(hours=1))
    assert certificates.server(signed, HOSTS, signer, now=renewal + timedelta(hours=1))


def test_a_server_with_another_name_gets_another_certificate(signed: Path, tmp_path: Path) -> None:
    signer = certificates.authority(tmp_path / "authority")
    assert certificates.server(signed, (*HOSTS, "rabbitmq-3"), signer)
    handshake(signed, signed / certificates.CA, "rabbitmq-3")


def test_another_authority_signs_anew(signed: Path, tmp_path: Path) -> None:
    assert certificates.server(signed, HOSTS, certificates.authority(tmp_path / "other"))
    handshake(signed, tmp_path / "other" / certificates.CA, "rabbitmq")


def test_an_authority_is_replaced_before_a_certificate_could_outlive_it(tmp_path: Path) -> None:
    first = certificates.authority(tmp_path).pem
    assert certificates.authority(tmp_path).pem == first
    late = datetime.now(UTC) + certificates.AUTHORITY_LIFE - SERVER_LIFE + timedelta(hours=1)
    assert certificates.authority(tmp_path, late).pem != first


def test_a_key_is_read_by_its_owner_alone(signed: Path, tmp_path: Path) -> None:
    keys = [*tmp_path.rglob("*.key")]
    assert {path.name for path in keys} == {"ca.key", "server.key"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o400}


# --- What the setup makes of it ---------------------------------------------------------------------------------------


def test_without_the_switch_there_is_no_certificate(tmp_path: Path) -> None:
    setup.prepare(tmp_path)
    assert not [*tmp_path.rglob("*.pem"), *tmp_path.rglob("*.key")]
    assert "ssl" not in (tmp_path / "rabbitmq" / "house.conf").read_text()


def test_with_it_no_server_takes_a_plain_connection(tmp_path: Path) -> None:
    # When a cluster with TLS is prepared
    setup.prepare(tmp_path, setup.House(("rabbitmq", "rabbitmq-2", "rabbitmq-3"), "redis", tls=True))

    # Then the plain ports are closed
    assert "listeners.tcp = none" in (tmp_path / "rabbitmq" / "house.conf").read_text().splitlines()
    for node in ("redis", "redis-replica"):
        lines = (tmp_path / node / "redis.conf").read_text().splitlines()
        assert {"port 0", "tls-port 6379", "tls-replication yes"} <= set(lines)
        handshake(tmp_path / node, tmp_path / "reporter" / "ca.pem", node)
    # And each client has what it verifies by, and no key
    for owner in setup.OWNERS:
        assert (tmp_path / owner / "ca.pem").read_bytes() == (tmp_path / "authority" / "ca.pem").read_bytes()
        assert not [*(tmp_path / owner).glob("*.key")]
    flower = (tmp_path / "flower" / "flowerconfig.py").read_text()
    assert "@rabbitmq-3:15671/api/" in flower and "http://" not in flower and "ca_file='/run/secrets/ca.pem'" in flower
