"""A certification authority for one cluster, and the servers' certificates that it signs.

Whatever is missing, about to expire, or not what is asked for any more is made anew; the rest is kept.
Source of the form: RFC 5280.
"""

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=365)
#: A certificate that has less time left than this is made anew.
RENEW_BEFORE = timedelta(days=30)
#: Clocks of two machines differ.
_SKEW = timedelta(minutes=5)

CA, CERTIFICATE, KEY = "ca.pem", "server.pem", "server.key"


@dataclass(frozen=True)
class Authority:
    """Who signs. Its key stays where no server can read it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """What clients verify by."""
        return self.certificate.public_bytes(Encoding.PEM)


def authority(folder: Path, now: datetime | None = None) -> Authority:
    """The authority that `folder` keeps; a new one where there is none, or its time would not outlast a server's."""
    now = now or datetime.now(UTC)
    certificate, key = folder / CA, folder / "ca.key"
    if certificate.is_file() and key.is_file():
        kept = x509.load_pem_x509_certificate(certificate.read_bytes())
        if kept.not_valid_after_utc > now + SERVER_LIFE:
            loaded = load_pem_private_key(key.read_bytes(), None)
            assert isinstance(loaded, ec.EllipticCurvePrivateKey)
            return Authority(kept, loaded)
    made = _new_authority(now)
    write(key, _pem(made.key), 0o400)
    write(certificate, made.pem, 0o444)
    return made


def server(
    folder: Path, hosts: Iterable[str], signer: Authority, *, owner: int | None = None, now: datetime | None = None
) -> bool:
    """See to it that `folder` has a certificate for `hosts`, its key, and the authority's certificate.

    Args:
        hosts: names or addresses by which clients reach the server.
        owner: user id that alone may read the key; None leaves it to whoever runs this.

    Returns: whether they were made, and the server must load them.
    """
    now, hosts = now or datetime.now(UTC), sorted(set(hosts))
    write(folder / CA, signer.pem, 0o444)
    if _serves(folder, hosts, signer, now):
        return False
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(hosts[0], signer.certificate.subject, key, now, SERVER_LIFE)
        .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False)
        .sign(signer.key, SHA256())
    )
    write(folder / KEY, _pem(key), 0o400, owner)
    write(folder / CERTIFICATE, certificate.public_bytes(Encoding.PEM), 0o444)
    return True


def write(path: Path, content: bytes, mode: int, owner: int | None = None) -> None:
    """Write `content` whole; at no time can anybody else read it than `mode` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    part.chmod(mode)
    if owner is not None:
        os.chown(part, owner, -1)
    part.replace(path)


def _serves(folder: Path, hosts: list[str], signer: Authority, now: datetime) -> bool:
    path = folder / CERTIFICATE
    if not path.is_file() or not (folder / KEY).exists():
        return False
    kept = x509.load_pem_x509_certificate(path.read_bytes())
    try:
        kept.verify_directly_issued_by(signer.certificate)
    except (InvalidSignature, ValueError):
        return False
    names = kept.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return kept.not_valid_after_utc > now + RENEW_BEFORE and set(names) == set(_names(hosts))


def _new_authority(now: datetime) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    # A number in the name, so that two authorities of one house are never taken for each other.
    subject = _name(f"taskhouse {x509.random_serial_number():x}"[:60])
    certificate = (
        _builder("", subject, key, now, AUTHORITY_LIFE, subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_SIGNS_CERTIFICATES, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    return Authority(certificate, key)


_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _builder(
    name: str,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    life: timedelta,
    subject: x509.Name | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject or _name(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + life)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
