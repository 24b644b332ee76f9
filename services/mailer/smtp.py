"""One mail server, over a connection that is kept from mail to mail."""

import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from services.mailer.smtp_dialogue import OK, Deferred, InDoubt, NotBegun, Refused, SomeDeferred, outcome, transact
from shared.config import Settings
from shared.errors import ConfigError, Retryable

#: Seconds since its last mail for which a connection is taken for open. After them the server is asked first.
RECENT = 2.0


class Unreachable(Retryable):
    """The server was not reached, did not answer in time, or closed the connection."""


@dataclass(frozen=True)
class Server:
    """A mail server and how to speak to it.

    Attributes:
        tls: from the first byte (`smtps://`).
        starttls: from the STARTTLS command on; a server that does not offer it gets no mail.
    """

    host: str
    port: int
    tls: bool = False
    starttls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> "Server":
        """What `SMTP_URL` and `SMTP_PASSWORD` name. Raises ConfigError."""
        parts = urlsplit(settings.smtp_url or "")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.path not in ("", "/") or options.keys() - {"starttls"} or options.get("starttls"):
            raise ConfigError("SMTP_URL: after the host only `/?starttls` may follow")
        tls, starttls = parts.scheme == "smtps", "starttls" in options
        if tls and starttls:
            raise ConfigError("SMTP_URL: smtps:// is encrypted from the start, leave `?starttls` out")
        secret = settings.smtp_password.get_secret_value() if settings.smtp_password else None
        user = unquote(parts.username) if parts.username else None
        password = unquote(parts.password) if parts.password else secret
        if (user is None) != (password is None):
            raise ConfigError("SMTP_URL names the user and SMTP_PASSWORD the password: give both or neither")
        if user is not None and not (tls or starttls):
            raise ConfigError("SMTP_URL: a password in clear text is not sent: use smtps://, or add `/?starttls`")
        return cls(parts.hostname or "", parts.port or _port(tls, user), tls, starttls, user, password)


class SmtpClient:
    """See `Transport`. Threads take turns; a process must use one that it has made after its fork.

    Args:
        timeout: seconds for each answer of the server.
    """

    def __init__(self, server: Server, timeout: float) -> None:
        self._server = server
        self._timeout = timeout
        self._turn = threading.Lock()
        self._connection: smtplib.SMTP | None = None
        self._used = 0.0

    def send(
        self, sender: str, recipients: Collection[str], message: bytes, before_end: Callable[[set[str]], None]
    ) -> dict[str, str]:
        """See Transport."""
        with self._turn:
            try:
                refused = self._hand_over(sender, recipients, message, before_end)
                if refused.keys() >= set(recipients):
                    # The server still has the sender, and would not take another.
                    self._reset()
                return refused
            except (Refused, Deferred, SomeDeferred):
                self._reset()
                raise
            except InDoubt as error:
                self._drop()
                raise InDoubt(f"{self._server.host}: {error}") from error
            except smtplib.SMTPResponseException as error:
                self._drop()
                what = "the login" if isinstance(error, smtplib.SMTPAuthenticationError) else "the connection"
                raise outcome(what, error.smtp_code, error.smtp_error) from error
            except smtplib.SMTPNotSupportedError as error:
                self._drop()
                raise Refused(f"SMTP_URL asks for what the server does not offer: {error}") from error
            except (OSError, smtplib.SMTPException) as error:
                self._drop()
                raise Unreachable(
                    f"{self._server.host}:{self._server.port}: {error or type(error).__name__}"
                ) from error
            except BaseException:
                # A time limit, or `before_end`: the server is in the middle of something.
                self._drop()
                raise
            finally:
                self._used = time.monotonic()

    def _hand_over(
        self, sender: str, recipients: Collection[str], message: bytes, before_end: Callable[[set[str]], None]
    ) -> dict[str, str]:
        if self._connection is not None and time.monotonic() - self._used < RECENT:
            # Where it was closed since, the server has nothing of this mail, and it may go over a new one.
            with suppress(NotBegun):
                return transact(self._connection, sender, recipients, message, before_end)
            self._drop()
        try:
            return transact(self._ready(), sender, recipients, message, before_end)
        except NotBegun as error:
            raise error.reason from error

    def _ready(self) -> smtplib.SMTP:
        if self._connection is not None:
            # A server closes what is idle for long; one that is about to says 421.
            with suppress(OSError, smtplib.SMTPException):
                if self._connection.noop()[0] == OK:
                    return self._connection
            self._drop()
        self._connection = self._open()
        return self._connection

    def _open(self) -> smtplib.SMTP:
        server = self._server
        # Without a name of its own smtplib asks DNS for one, for as long as that takes.
        name = socket.gethostname()
        connection: smtplib.SMTP = (
            smtplib.SMTP_SSL(
                server.host, server.port, name, timeout=self._timeout, context=ssl.create_default_context()
            )
            if server.tls
            else smtplib.SMTP(server.host, server.port, name, timeout=self._timeout)
        )
        try:
            # The end of a message goes by itself, and else would wait for 40 ms until the server has acknowledged what
            # came before it (Nagle's algorithm).
            assert connection.sock is not None
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if server.starttls:
                connection.starttls(context=ssl.create_default_context())
            if server.user is not None and server.password is not None:
                connection.login(server.user, server.password)
            connection.ehlo_or_helo_if_needed()
        except BaseException:
            connection.close()
            raise
        return connection

    def _reset(self) -> None:
        """Leave the transaction, so that the next mail finds a clean connection."""
        clean = False
        try:
            with suppress(OSError, smtplib.SMTPException):
                clean = self._connection is not None and self._connection.rset()[0] == OK
        finally:
            # Also where a time limit strikes: the next mail would read the answer to this one's RSET.
            if not clean:
                self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _port(tls: bool, user: str | None) -> int:
    """The usual one: 465 with TLS from the start, 587 for who logs in, 25 for the rest. Source: RFC 8314, RFC 6409."""
    return 465 if tls else 587 if user else 25
