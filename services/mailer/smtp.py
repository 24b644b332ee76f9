"""One mail server, over a connection that is kept from mail to mail."""

import smtplib
import socket
import ssl
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parseaddr
from urllib.parse import parse_qsl, unquote, urlsplit

from shared.config import Settings
from shared.errors import ConfigError, Final, Retryable

#: Characters of a server's words that go into results, logs and dead letters.
LONGEST_REPLY = 300
#: The replies of RFC 5321 that matter one by one.
OK, DATA_STARTS, CLOSING = 250, 354, 421


class Unreachable(Retryable):
    """The server was not reached, did not answer in time, or closed the connection."""


class Deferred(Retryable):
    """The server said 4xx: not now. The message has its words."""


class Refused(Final):
    """The server said 5xx: never. The message has its words."""


class InDoubt(Exception):
    """The end of the message was sent and no answer came: the server may have taken it."""


class SomeDeferred(Exception):
    """The mail is out to all recipients but these.

    Attributes:
        deferred: those that the server does not take now, with its words.
        refused: those that it never takes.
    """

    def __init__(self, deferred: Mapping[str, str], refused: Mapping[str, str]) -> None:
        super().__init__(deferred, refused)
        self.deferred = dict(deferred)
        self.refused = dict(refused)


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

    def send(
        self, sender: str, recipients: Collection[str], message: bytes, before_end: Callable[[set[str]], None]
    ) -> dict[str, str]:
        """See Transport."""
        with self._turn:
            try:
                connection = self._ready()
                return self._transact(connection, sender, recipients, message, before_end)
            except (Refused, Deferred, SomeDeferred):
                self._reset()
                raise
            except smtplib.SMTPResponseException as error:
                self._drop()
                what = "the login" if isinstance(error, smtplib.SMTPAuthenticationError) else "the connection"
                raise _outcome(what, error.smtp_code, error.smtp_error) from error
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
        context = ssl.create_default_context()
        # Without a name of its own smtplib asks DNS for one, for as long as that takes.
        name = socket.gethostname()
        connection: smtplib.SMTP = (
            smtplib.SMTP_SSL(server.host, server.port, name, timeout=self._timeout, context=context)
            if server.tls
            else smtplib.SMTP(server.host, server.port, name, timeout=self._timeout)
        )
        try:
            # The end of a message goes by itself, and else would wait for 40 ms until the server has acknowledged what
            # came before it (Nagle's algorithm).
            assert connection.sock is not None
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if server.starttls:
                connection.starttls(context=context)
            if server.user is not None and server.password is not None:
                connection.login(server.user, server.password)
            connection.ehlo_or_helo_if_needed()
        except BaseException:
            connection.close()
            raise
        return connection

    def _transact(
        self,
        connection: smtplib.SMTP,
        sender: str,
        recipients: Collection[str],
        message: bytes,
        before_end: Callable[[set[str]], None],
    ) -> dict[str, str]:
        _expect(connection.mail(parseaddr(sender)[1]), OK, "the sender")
        deferred: dict[str, str] = {}
        refused: dict[str, str] = {}
        for recipient in recipients:
            code, words = connection.rcpt(recipient)
            if code == CLOSING:
                raise smtplib.SMTPResponseException(code, words)
            if code >= 400:
                (refused if code >= 500 else deferred)[recipient] = _words(code, words)
        accepted = set(recipients) - refused.keys() - deferred.keys()
        if accepted:
            _expect(connection.docmd("DATA"), DATA_STARTS, "the message")
            connection.send(_dot_stuffed(message))
            before_end(accepted)
            _expect(self._end(connection), OK, "the message")
        if deferred:
            raise SomeDeferred(deferred, refused)
        return refused

    def _end(self, connection: smtplib.SMTP) -> tuple[int, bytes]:
        # What cannot be handed to the system whole has not ended the message. After it, silence is doubt.
        connection.send(b".\r\n")
        try:
            return connection.getreply()
        except Exception as error:
            raise InDoubt(f"{self._server.host}: the message was sent, but no answer came: {error}") from error

    def _reset(self) -> None:
        """Leave the transaction, so that the next mail finds a clean connection."""
        try:
            if self._connection is not None and self._connection.rset()[0] == OK:
                return
        except (OSError, smtplib.SMTPException):
            pass
        self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _port(tls: bool, user: str | None) -> int:
    """The usual one: 465 with TLS from the start, 587 for who logs in, 25 for the rest. Source: RFC 8314, RFC 6409."""
    return 465 if tls else 587 if user else 25


def _expect(reply: tuple[int, bytes], wanted: int, what: str) -> None:
    code, words = reply
    if code == CLOSING:
        raise smtplib.SMTPResponseException(code, words)
    if code != wanted:
        raise _outcome(what, code, words)


def _outcome(what: str, code: int, words: bytes | str) -> Refused | Deferred:
    text = f"the mail server says to {what}: {_words(code, words)}"
    # Neither 4xx nor 5xx: the server speaks nonsense, which may pass.
    return Refused(text) if code >= 500 else Deferred(text)


def _words(code: int, words: bytes | str) -> str:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    line = " ".join(text.split())
    return f"{code} {line}"[:LONGEST_REPLY]


def _dot_stuffed(message: bytes) -> bytes:
    """Source: RFC 5321, 4.5.2."""
    stuffed = message.replace(b"\r\n.", b"\r\n..")
    stuffed = b"." + stuffed if stuffed.startswith(b".") else stuffed
    return stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"
