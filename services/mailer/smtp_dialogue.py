"""One mail over an open connection: what is said to the server, and what its answers mean."""

import smtplib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from email.utils import parseaddr
from functools import lru_cache

from shared.errors import Final, Retryable

#: Characters of a server's words that go into results, logs and dead letters.
LONGEST_REPLY = 300
#: The replies of RFC 5321 that matter one by one.
OK, DATA_STARTS, CLOSING = 250, 354, 421
#: Commands in one write. A server may stop reading until its replies are read: so many commands, and so many replies,
#: fit into what the system keeps for a connection. Source: RFC 2920, 3.1.
GROUP = 50

_Reply = tuple[int, bytes]


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


class NotBegun(Exception):
    """The connection was over before the server had answered anything to this mail.

    Attributes:
        reason: what ended it.
    """

    def __init__(self, reason: OSError | smtplib.SMTPException) -> None:
        super().__init__(reason)
        self.reason = reason


def transact(
    connection: smtplib.SMTP,
    sender: str,
    recipients: Collection[str],
    message: bytes,
    before_end: Callable[[set[str]], None],
) -> dict[str, str]:
    """Hand a message over; gives the refused recipients, each with the server's words. See `Transport.send`.

    Raises:
        NotBegun: see there.
        OSError, smtplib.SMTPException: the connection is over, and the server has surely not taken the message.
        Deferred, SomeDeferred, Refused, InDoubt: see there.
    """
    answers = _envelope(connection, sender, recipients)
    if answers.accepted:
        connection.send(_dot_stuffed(message))
        before_end(set(answers.accepted))
        expect(_end(connection), OK, "the message")
    if answers.deferred:
        raise SomeDeferred(answers.deferred, answers.refused)
    return answers.refused


def expect(reply: _Reply, wanted: int, what: str) -> None:
    """Raise what a reply other than `wanted` means. `what` is the thing that it is about."""
    code, words = reply
    if code == CLOSING:
        raise smtplib.SMTPResponseException(code, words)
    if code != wanted:
        raise outcome(what, code, words)


def outcome(what: str, code: int, words: bytes | str) -> Refused | Deferred:
    """The error for what the server says to `what`."""
    text = f"the mail server says to {what}: {_words(code, words)}"
    # Neither 4xx nor 5xx: the server speaks nonsense, which may pass.
    return Refused(text) if code >= 500 else Deferred(text)


@dataclass
class _Answers:
    """What the server said to each recipient."""

    accepted: list[str] = field(default_factory=list)
    deferred: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def add(self, recipient: str, reply: _Reply) -> None:
        code, words = reply
        if code == CLOSING:
            raise smtplib.SMTPResponseException(code, words)
        if code >= 400:
            (self.refused if code >= 500 else self.deferred)[recipient] = _words(code, words)
        else:
            self.accepted.append(recipient)


class _Commands:
    """Commands that are answered in their order; many go out in one write to a server that offers PIPELINING."""

    def __init__(self, connection: smtplib.SMTP, commands: list[str]) -> None:
        if any("\r" in command or "\n" in command for command in commands):
            raise ValueError("an address has a line break, by which one command becomes two")
        self._connection = connection
        self._left = commands
        self._group = GROUP if connection.has_extn("pipelining") else 1
        self._unanswered = 0

    def answer(self) -> _Reply:
        """To the next command, which is sent unless it is out already."""
        if not self._unanswered:
            group, self._left = self._left[: self._group], self._left[self._group :]
            self._connection.send("".join(f"{command}\r\n" for command in group))
            self._unanswered = len(group)
        reply = self._connection.getreply()
        self._unanswered -= 1
        return reply

    def forgo(self) -> None:
        """Read the answers to what is out and matters no more.

        A server that takes DATA although it has taken no recipient waits for a message. It gets none, and not even an
        end of one: the connection is closed.
        """
        try:
            codes = {self._connection.getreply()[0] for _ in range(self._unanswered)}
        except (OSError, smtplib.SMTPException):
            self._connection.close()
        else:
            if codes & {DATA_STARTS, CLOSING}:
                self._connection.close()


def _envelope(connection: smtplib.SMTP, sender: str, recipients: Collection[str]) -> _Answers:
    """Come to where the message begins, unless nobody takes it; gives what was said to each recipient."""
    commands = _Commands(
        connection, [_mail_from(sender), *(f"RCPT TO:{smtplib.quoteaddr(one)}" for one in recipients), "DATA"]
    )
    try:
        expect(commands.answer(), OK, "the sender")
    except (OSError, smtplib.SMTPException) as error:
        raise NotBegun(error) from error
    except (Refused, Deferred):
        commands.forgo()
        raise
    answers = _Answers()
    for recipient in recipients:
        answers.add(recipient, commands.answer())
    if answers.accepted:
        expect(commands.answer(), DATA_STARTS, "the message")
    else:
        commands.forgo()
    return answers


# A process has one sender.
@lru_cache(maxsize=8)
def _mail_from(sender: str) -> str:
    return f"MAIL FROM:{smtplib.quoteaddr(parseaddr(sender)[1])}"


def _end(connection: smtplib.SMTP) -> _Reply:
    # What cannot be handed to the system whole has not ended the message. After it, silence is doubt.
    connection.send(b".\r\n")
    try:
        return connection.getreply()
    except Exception as error:
        raise InDoubt(f"the message was sent, but no answer came: {error}") from error


def _words(code: int, words: bytes | str) -> str:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    line = " ".join(text.split())
    return f"{code} {line}"[:LONGEST_REPLY]


def _dot_stuffed(message: bytes) -> bytes:
    """Source: RFC 5321, 4.5.2."""
    stuffed = message.replace(b"\r\n.", b"\r\n..")
    stuffed = b"." + stuffed if stuffed.startswith(b".") else stuffed
    return stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"
