"""A mail server that does as it is told: takes mail, refuses it, falls silent, or closes at any stage."""

import base64
import email
import email.policy
import socket
import ssl
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from io import BufferedReader
from types import TracebackType
from typing import Literal

#: Where a script can step in: at the greeting, at each command, when the message begins to arrive, and at its end.
#: `rcpt:<address>` is for one recipient.
Stage = str
#: Seconds that a test waits for the server to have seen something.
PATIENCE = 30.0
CLOSE: Literal["close"] = "close"
HANG: Literal["hang"] = "hang"


@dataclass
class Received:
    """A mail that the server took: it answered 250, or a script says that it would have."""

    sender: str
    recipients: list[str]
    data: bytes

    @property
    def message(self) -> EmailMessage:
        """The mail as a mail program reads it."""
        parsed = email.message_from_bytes(self.data, policy=email.policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed

    @property
    def text(self) -> str:
        """Its plain text."""
        body = self.message.get_body(("plain",))
        assert body is not None
        return str(body.get_content()).replace("\r\n", "\n")


@dataclass
class Session:
    """One connection, as a script sees it."""

    server: "SmtpStandIn"
    channel: socket.socket
    lines: BufferedReader = field(init=False)
    user: str | None = None
    password: str | None = None
    sender: str = ""
    recipients: list[str] = field(default_factory=list)
    data: bytes = b""

    def reply(self, text: str) -> None:
        """Send one line."""
        self.channel.sendall(text.encode() + b"\r\n")

    def ahead(self) -> list[str]:
        """The commands that have arrived with the last one; waits for one where there is none."""
        return self.lines.peek().decode().splitlines()

    def forget(self) -> None:
        """Be ready for the next mail."""
        self.sender, self.recipients = "", []

    def take(self) -> None:
        """Have the mail, whatever is answered."""
        self.server.add(Received(self.sender, list(self.recipients), self.data))


#: What a script does at a stage: a reply, CLOSE, HANG, or a function that does it by hand.
Act = str | Callable[[Session], None]


class Gone(Exception):
    """The connection is over."""


class SmtpStandIn:
    """Listens on loopback from the start of the `with` block to its end.

    Args:
        certificate: a file with key and certificate; then it offers STARTTLS.
        tls: speaks TLS from the first byte.
        pipelining: offers PIPELINING.
    """

    def __init__(self, certificate: str | None = None, *, tls: bool = False, pipelining: bool = True) -> None:
        self.mails: list[Received] = []
        self.sessions: list[Session] = []
        self._context = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        self._tls = tls
        extensions = ["AUTH PLAIN", "STARTTLS" if certificate else "", "PIPELINING" if pipelining else "", "SIZE"]
        self._extensions = [extension for extension in extensions if extension]
        self._scripts: dict[Stage, deque[Act]] = defaultdict(deque)
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.settimeout(0.1)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        """For `SMTP_URL`."""
        return f"smtp://127.0.0.1:{self.port}"

    def on(self, stage: Stage, *acts: Act) -> None:
        """At the next times that it comes to `stage`, do these instead of the usual, one each time."""
        self._scripts[stage].extend(acts)

    def add(self, mail: Received) -> None:
        """Keep a mail."""
        with self._changed:
            self.mails.append(mail)
            self._changed.notify_all()

    def wait_for_mails(self, count: int) -> list[Received]:
        """The mails, as soon as there are so many."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self.mails) >= count, PATIENCE)
            assert arrived, f"{len(self.mails)} of {count} mails arrived in {PATIENCE:.0f} s"
            return list(self.mails)

    def __enter__(self) -> "SmtpStandIn":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._listener.close()
        for session in self.sessions:
            session.channel.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                channel, _ = self._listener.accept()
            except TimeoutError:
                continue
            session = Session(self, channel)
            self.sessions.append(session)
            threading.Thread(target=self._serve, args=(session,), daemon=True).start()

    def _serve(self, session: Session) -> None:
        try:
            if self._tls and self._context:
                session.channel = self._context.wrap_socket(session.channel, server_side=True)
            self._answer(session, "connect", "220 stand-in")
            session.lines = session.channel.makefile("rb")
            while line := session.lines.readline():
                verb, _, rest = line.decode().strip().partition(" ")
                if verb.upper() == "STARTTLS" and self._context:
                    session.reply("220 go ahead")
                    session.channel = self._context.wrap_socket(session.channel, server_side=True)
                    session.lines = session.channel.makefile("rb")
                elif verb.upper() == "DATA":
                    usual = "354 go ahead" if session.recipients else "554 nobody to take it"
                    if self._answer(session, "data", usual):
                        session.data = self._read_message(session)
                        self._answer(session, "end", "250 taken")
                        session.forget()
                else:
                    self._command(session, verb.lower(), rest)
        except (Gone, OSError, ValueError):
            pass
        finally:
            session.channel.close()

    def _command(self, session: Session, verb: str, rest: str) -> None:
        address = rest.partition("<")[2].partition(">")[0]
        usual = "250 fine"
        if verb == "ehlo":
            *some, last = ["stand-in", *self._extensions]
            usual = "".join(f"250-{line}\r\n" for line in some) + f"250 {last}"
        elif verb == "auth":
            _, session.user, session.password = base64.b64decode(rest.split()[1]).decode().split("\0")
            usual = "235 welcome"
        elif verb == "rset":
            session.forget()
        elif verb == "mail" and session.sender:
            usual = "503 one mail at a time"
        elif verb == "rcpt" and not session.sender:
            usual = "503 from whom?"
        elif verb == "quit":
            session.reply("221 bye")
            raise Gone
        stage = f"rcpt:{address}" if verb == "rcpt" and self._scripts[f"rcpt:{address}"] else verb
        if not self._answer(session, stage, usual):
            return
        if verb == "mail":
            session.sender = address
        elif verb == "rcpt":
            session.recipients.append(address)

    def _read_message(self, session: Session) -> bytes:
        message = b""
        for number, line in enumerate(session.lines):
            if number == 0 and self._scripts["body"]:
                self._answer(session, "body", "")
            if line == b".\r\n":
                return message
            message += line.removeprefix(b".") if line.startswith(b"..") else line
        raise Gone

    def _answer(self, session: Session, stage: Stage, usual: str) -> bool:
        """Do what the script says, or the usual; whether that was a yes."""
        act = self._scripts[stage].popleft() if self._scripts[stage] else usual
        if callable(act):
            act(session)
            return True
        if act == HANG:
            self._over.wait(PATIENCE)
        if act in (CLOSE, HANG):
            raise Gone
        if stage == "end" and act.startswith("250"):
            session.take()
        session.reply(act)
        if act.startswith("421"):
            raise Gone
        return act[0] in "23"
