"""Where mail goes: a mail server, or files in the embedded mode."""

from collections.abc import Callable, Collection
from typing import Protocol

from services.mailer.outbox import Outbox
from services.mailer.smtp import Server, SmtpClient
from shared.config import Settings
from shared.errors import ConfigError


class Transport(Protocol):
    """Takes a whole message."""

    def send(
        self, sender: str, recipients: Collection[str], message: bytes, before_end: Callable[[set[str]], None]
    ) -> dict[str, str]:
        """Hand the message over; gives the refused recipients, each with the server's words.

        Args:
            message: with CRLF line ends.
            before_end: called with the recipients that will get it, just before the end of the message: what it raises
                stops the mail.

        Raises:
            Deferred, Unreachable: the server has surely not taken it, and may later.
            SomeDeferred: the server has taken it for the others.
            Refused: the server will not take it.
            InDoubt: nobody knows.
        """


def check_settings(settings: Settings) -> None:
    """Raise ConfigError unless mail can go somewhere."""
    if settings.smtp_url is not None:
        Server.from_settings(settings)
    elif not settings.embedded:
        raise ConfigError("SMTP_URL is not set: give the mail server, like smtp://user@mail.example.org:587/?starttls")


def transport(settings: Settings) -> Transport:
    """What the settings ask for."""
    if settings.smtp_url is None:
        return Outbox(settings.local_dir / "mail")
    return SmtpClient(Server.from_settings(settings), settings.smtp_timeout)
