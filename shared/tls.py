"""TLS towards broker and Redis: the server's certificate is always verified, and so is its host's name.

Whether a connection is encrypted its URL says: `amqps://`, `rediss://`.
"""

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from celery.app.amqp import AMQP as CeleryAMQP
from kombu import Connection as KombuConnection
from kombu.connection import ConnectionPool, PooledConnection
from kombu.utils.collections import HashedSeq

from shared.amqp_transport import Transport
from shared.config import Settings
from shared.errors import ConfigError


class _OurWay:
    """In front of a connection of kombu's: expects the certificate of the host that it connects to, and reads AMQP in
    pieces where its app says so.

    kombu notes the first host's name in the options that all connections share, and expects it of each later host too:
    no failover would pass. And it makes those of a pool, over which publishers publish, of a class of its own.
    """

    ssl: Any
    transport_cls: Any
    hostname: str
    reads_in_pieces = False

    def get_transport_cls(self) -> Any:
        """As kombu's. Chosen here and not by a name, so that its URL is still one of AMQP to whoever shows it."""
        # kombu makes amqp:// librabbitmq:// where that is installed.
        chosen = self.reads_in_pieces and self.transport_cls in ("amqp", "amqps", "pyamqp", "librabbitmq")
        return Transport if chosen else super().get_transport_cls()  # type: ignore[misc]

    def _init_params(self, *args: Any, **kwargs: Any) -> None:
        super()._init_params(*args, **kwargs)  # type: ignore[misc]
        if isinstance(self.ssl, dict) and "server_hostname" in self.ssl:
            self.ssl = {**self.ssl, "server_hostname": self.hostname}

    def __eqhash__(self) -> Any:
        # kombu keeps one pool for all apps of a process whose connections are equal.
        return HashedSeq(*super().__eqhash__(), self.reads_in_pieces)  # type: ignore[misc]

    def Pool(self, limit: int | None = None, **kwargs: Any) -> ConnectionPool:
        """As kombu's, of connections like this one."""
        return _Pool(self, limit, **kwargs)


class Connection(_OurWay, KombuConnection):
    """A connection of an app."""


class InPieces(Connection):
    """The same, with the other read path."""

    reads_in_pieces = True


class _Pooled(_OurWay, PooledConnection):
    """A connection of a pool."""


class _PooledInPieces(_Pooled):
    reads_in_pieces = True


class _Pool(ConnectionPool):
    def new(self) -> _Pooled:
        kind = _PooledInPieces if self.connection.reads_in_pieces else _Pooled
        return kind(self, **dict(self.connection._info(resolve=False)))


class AMQP(CeleryAMQP):
    """Celery's, with the connection above."""

    @property
    def Connection(self) -> type[Connection]:
        """By the setting `BROKER_READS`."""
        return InPieces if self.app.settings.reads_in_pieces else Connection


def broker_options(settings: Settings) -> dict[str, Any] | None:
    """What py-amqp takes, or redis-py where Redis is the broker; None where the broker's URL asks for no TLS.

    Raises:
        ConfigError: the CA's file cannot be used.
    """
    scheme = urlsplit(settings.broker_url or "").scheme
    if scheme not in ("amqps", "rediss"):
        return None
    ca = _ca(settings)
    if scheme == "rediss":
        return _of_redis(ca)
    return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None, **({"ca_certs": str(ca)} if ca else {})}


def redis_options(settings: Settings) -> dict[str, Any]:
    """What redis-py takes; nothing where Redis' URL asks for no TLS.

    Raises:
        ConfigError: the CA's file cannot be used.
    """
    if urlsplit(settings.redis_url or "").scheme != "rediss":
        return {}
    return _of_redis(_ca(settings))


def _of_redis(ca: Path | None) -> dict[str, Any]:
    return {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        **({"ssl_ca_certs": str(ca)} if ca else {}),
    }


def _ca(settings: Settings) -> Path | None:
    """The authority's certificate; None for those that the machine trusts."""
    path = settings.tls_ca_file
    if path is not None:
        try:
            ssl.create_default_context(cafile=path)
        except ssl.SSLError:
            raise ConfigError(f"TLS_CA_FILE: {path} is no certificate in PEM form") from None
        except OSError as error:
            raise ConfigError(f"TLS_CA_FILE: cannot read {path}: {error.strerror}") from None
    return path
