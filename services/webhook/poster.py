"""A POST to a host that somebody else named: signed, and never into the house's own network."""

import hashlib
import hmac
import http.client
import ipaddress
import json
import socket
import ssl
import time
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from shared.config import Settings
from shared.errors import Final, Retryable

#: Seconds to connect, and between two bytes.
TIMEOUT = 10
#: Bytes of an answer that are read: only its status counts.
LONGEST_ANSWER = 4096

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Forbidden(Final):
    """The address is one that nothing is sent to. The message says why, and which setting decides."""


class Refused(Final):
    """The other side does not want it."""


class Unavailable(Retryable):
    """The other side cannot be reached, or says to come again."""


class Poster:
    """Posts outcomes.

    Attributes:
        hosts: names that may be posted to; `*.example.org` stands for every name below it.
        secret: signs each request.
        networks: private networks that may be reached all the same.
    """

    def __init__(
        self,
        hosts: Iterable[str],
        secret: bytes,
        networks: Iterable[Network] = (),
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.hosts, self.secret, self.networks = tuple(hosts), secret, tuple(networks)
        self.context = context or ssl.create_default_context()

    @classmethod
    def from_settings(cls, settings: Settings) -> "Poster":
        """What `CALLBACK_HOSTS`, `CALLBACK_SECRET` and `CALLBACK_NETWORKS` say."""
        secret = settings.callback_secret.get_secret_value() if settings.callback_secret else ""
        return cls(settings.callback_hosts, secret.encode(), settings.callback_networks)

    def post(self, url: str, key: str, outcome: dict[str, Any]) -> None:
        """POST `outcome` as JSON. `key` is the same at each attempt, so that the other side can tell a repetition.

        Raises:
            Forbidden, Refused: another attempt cannot help.
            Unavailable: it may.
        """
        parts = urlsplit(url)
        host, secure = (parts.hostname or "").lower(), parts.scheme == "https"
        self._check_host(host)
        address = self._address(host, parts.port or (443 if secure else 80), secure)
        body = json.dumps(outcome, ensure_ascii=False).encode()
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = _Pinned(host, address, self.context if secure else None)
        headers = {
            "Host": parts.netloc,
            "Content-Type": "application/json",
            "User-Agent": "taskhouse",
            "Idempotency-Key": key,
            "X-Taskhouse-Signature": sign(self.secret, body, int(time.time())),
        }
        try:
            connection.request("POST", target, body, headers)
            answer = connection.getresponse()
            answer.read(LONGEST_ANSWER)
        except ssl.SSLCertVerificationError as error:
            raise Refused(f"{host}: its certificate is not valid: {error.verify_message}") from None
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{host} cannot be reached: {error}") from None
        finally:
            connection.close()
        if answer.status >= 500 or answer.status == 429:
            raise Unavailable(f"{host} answers {answer.status}")
        if not 200 <= answer.status < 300:
            # A redirect too: it would lead to a host that nobody has checked.
            raise Refused(f"{host} answers {answer.status}")

    def _check_host(self, host: str) -> None:
        if not self.secret:
            raise Forbidden("CALLBACK_SECRET is not set: nothing is sent that nobody could verify")
        if not any(fnmatchcase(host, allowed) for allowed in self.hosts):
            raise Forbidden(f"{host} is not in CALLBACK_HOSTS: ask the operator to list it")

    def _address(self, host: str, port: int, secure: bool) -> tuple[str, int]:
        try:
            found = {info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        except OSError as error:
            raise Unavailable(f"{host} has no address: {error}") from None
        addresses = [ipaddress.ip_address(str(one).partition("%")[0]) for one in sorted(map(str, found))]
        for one in addresses:
            inside = any(one in network for network in self.networks)
            if not inside and not is_public(one):
                raise Forbidden(f"{host} is at {one}, which is private: see CALLBACK_NETWORKS")
            if not secure and not inside:
                raise Forbidden(f"{host}: only https may leave the house")
        return str(addresses[0]), port


class _Pinned(http.client.HTTPConnection):
    """Connects to the address that was checked: asked again, the name might lead elsewhere."""

    def __init__(self, host: str, address: tuple[str, int], context: ssl.SSLContext | None) -> None:
        super().__init__(host, address[1], timeout=TIMEOUT)
        self._address, self._context = address, context

    def connect(self) -> None:
        self.sock = socket.create_connection(self._address, TIMEOUT)
        if self._context is not None:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address belongs to the open internet, also where IPv6 wraps one of IPv4."""
    if isinstance(address, ipaddress.IPv6Address):
        for wrapped in (address.ipv4_mapped, address.sixtofour, address.teredo[1] if address.teredo else None):
            if wrapped is not None:
                return is_public(wrapped)
    return address.is_global and not address.is_multicast and not address.is_reserved


def sign(secret: bytes, body: bytes, moment: int) -> str:
    """`t=<seconds>,v1=<hex>`: HMAC-SHA-256 of the seconds, a dot and the body."""
    digest = hmac.new(secret, f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"
