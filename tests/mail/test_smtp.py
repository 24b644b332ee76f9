"""The client against a mail server that does as it is told."""

import smtplib
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from services.mailer.smtp import Server, SmtpClient, Unreachable
from services.mailer.smtp_dialogue import Deferred, InDoubt, Refused, SomeDeferred
from shared.config import Settings
from shared.errors import ConfigError
from tests.stand_ins.smtp import CLOSE, HANG, Act, Gone, Session, SmtpStandIn

MESSAGE = b"Subject: hello\r\n\r\nfirst\r\n.starts with a dot\r\n"
ANN, BOB, EVE = "ann@example.org", "bob@example.org", "eve@example.org"


def client_of(server: SmtpStandIn, **settings: str) -> SmtpClient:
    return SmtpClient(Server.from_settings(Settings.load({"SMTP_URL": server.url, **settings})), timeout=0.5)


@pytest.fixture(params=[True, False], ids=["pipelining", "one by one"])
def smtp(request: pytest.FixtureRequest) -> Iterator[SmtpStandIn]:
    """A mail server on loopback, which offers PIPELINING or does not."""
    with SmtpStandIn(pipelining=request.param) as server:
        yield server


@pytest.fixture
def client(smtp: SmtpStandIn) -> Iterator[SmtpClient]:
    """A client of the server."""
    yield client_of(smtp)


def send(client: SmtpClient, *recipients: str) -> dict[str, str]:
    return client.send("House <house@example.org>", recipients or (ANN,), MESSAGE, lambda accepted: None)


def test_a_mail_arrives_as_it_is(smtp: SmtpStandIn, client: SmtpClient) -> None:
    # When a mail with a line that begins with a dot is sent to two
    assert send(client, ANN, BOB) == {}
    # Then the server has it, byte by byte, from the bare address and for both
    mail = smtp.mails[0]
    assert (mail.sender, mail.recipients, mail.data) == ("house@example.org", [ANN, BOB], MESSAGE)


def test_one_connection_serves_many_mails(smtp: SmtpStandIn, client: SmtpClient) -> None:
    for _ in range(5):
        send(client)
    assert (len(smtp.mails), len(smtp.sessions)) == (5, 1)


def test_the_end_of_a_mail_does_not_wait_for_the_rest_of_it(smtp: SmtpStandIn, client: SmtpClient) -> None:
    # It is sent by itself; the system would keep it back until the server has acknowledged the rest, 40 ms later
    send(client)
    assert client._connection is not None and client._connection.sock is not None
    assert client._connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


@pytest.mark.parametrize("answer", [CLOSE, "421 idle for too long"])
def test_a_connection_that_was_idle_is_asked_first(
    smtp: SmtpStandIn, client: SmtpClient, answer: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a connection that was not used for a while, and that the server then closes
    monkeypatch.setattr("services.mailer.smtp.RECENT", 0.0)
    send(client)
    smtp.on("noop", answer)
    # When a mail is sent
    send(client)
    # Then it goes over a new one, and nobody notices
    assert (len(smtp.mails), len(smtp.sessions)) == (2, 2)


def test_a_connection_that_was_just_used_is_not_asked(smtp: SmtpStandIn, client: SmtpClient) -> None:
    smtp.on("noop", CLOSE)
    send(client)
    send(client)
    assert (len(smtp.mails), len(smtp.sessions)) == (2, 1)


def reset(session: Session) -> None:
    """The server's machine is gone: not even an end of the stream comes."""
    session.channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    session.lines.close()
    session.channel.close()


@pytest.mark.parametrize("answer", [CLOSE, HANG, "421 idle for too long", reset])
def test_a_connection_that_was_closed_since_the_last_mail_is_opened_again(
    smtp: SmtpStandIn, client: SmtpClient, answer: Act
) -> None:
    # Given a connection that was just used
    send(client)
    # When the server closes it, or says so, before it has taken anything of the next mail
    smtp.on("mail", answer)
    send(client)
    # Then that goes over a new one, once
    assert (len(smtp.mails), len(smtp.sessions)) == (2, 2)


def test_a_new_connection_that_is_closed_is_not_opened_again(smtp: SmtpStandIn, client: SmtpClient) -> None:
    # Given a server that closes the kept connection, and the new one too
    send(client)
    smtp.on("mail", CLOSE, CLOSE)
    with pytest.raises(Unreachable):
        send(client)
    assert len(smtp.sessions) == 2


@pytest.mark.parametrize("stage", ["rcpt", "data"])
def test_what_was_begun_is_not_begun_again_at_once(smtp: SmtpStandIn, client: SmtpClient, stage: str) -> None:
    # Given a server that takes the sender and then closes
    send(client)
    smtp.on(stage, CLOSE)
    # Then whoever sends it decides when it is tried again
    with pytest.raises(Unreachable):
        send(client)
    assert (len(smtp.mails), len(smtp.sessions)) == (1, 1)


@pytest.mark.parametrize("stage", ["connect", "mail", "rcpt", "data", "end"])
@pytest.mark.parametrize("words", ["421 closing", "451 try again later"])
def test_4xx_means_later(smtp: SmtpStandIn, client: SmtpClient, stage: str, words: str) -> None:
    smtp.on(stage, words)
    with pytest.raises((Deferred, SomeDeferred), match=words):
        send(client)
    assert smtp.mails == []
    # And the next mail finds everything in order
    send(client)
    assert len(smtp.mails) == 1


@pytest.mark.parametrize("stage", ["connect", "mail", "data", "end"])
def test_5xx_means_never_with_the_servers_words(smtp: SmtpStandIn, client: SmtpClient, stage: str) -> None:
    smtp.on(stage, "554-go away\r\n554 for good")
    with pytest.raises(Refused, match="554 go away for good" if stage != "connect" else "554"):
        send(client)
    assert smtp.mails == []
    send(client)
    assert len(smtp.mails) == 1


def test_a_partly_refused_list_goes_to_the_rest(smtp: SmtpStandIn, client: SmtpClient) -> None:
    smtp.on(f"rcpt:{BOB}", "550 no such user")
    assert send(client, ANN, BOB, EVE) == {BOB: "550 no such user"}
    assert smtp.mails[0].recipients == [ANN, EVE]


def test_a_partly_deferred_list_goes_to_the_rest_and_says_who_must_wait(smtp: SmtpStandIn, client: SmtpClient) -> None:
    smtp.on(f"rcpt:{BOB}", "450 greylisted")
    smtp.on(f"rcpt:{EVE}", "550 no such user")
    with pytest.raises(SomeDeferred) as caught:
        send(client, ANN, BOB, EVE)
    assert smtp.mails[0].recipients == [ANN]
    assert (caught.value.deferred, caught.value.refused) == ({BOB: "450 greylisted"}, {EVE: "550 no such user"})


@pytest.mark.parametrize("answer", [CLOSE, "354 go ahead", "421 too many errors", "503 no"])
def test_without_any_recipient_no_message_is_sent(smtp: SmtpStandIn, client: SmtpClient, answer: Act) -> None:
    # Given a server that takes nobody, and says to DATA what it likes
    smtp.on("rcpt", "550 no", "550 never", "550 no", "450 later")
    smtp.on("data", answer, answer)
    # Then what it said to the recipients is what counts
    assert send(client, ANN, BOB) == {ANN: "550 no", BOB: "550 never"}
    with pytest.raises(SomeDeferred) as caught:
        send(client, ANN, BOB)
    assert (caught.value.deferred, caught.value.refused) == ({BOB: "450 later"}, {ANN: "550 no"})
    # And nothing was mailed, not even without content
    assert smtp.mails == []


@pytest.mark.parametrize("words", ["550 no such user", "450 later"])
def test_a_mail_that_nobody_takes_is_over_for_the_server_too(smtp: SmtpStandIn, client: SmtpClient, words: str) -> None:
    # Given a server that has taken the sender and none of the recipients
    smtp.on("rcpt", words)
    with suppress(SomeDeferred):
        send(client)
    # When the next mail comes over the same connection
    send(client, BOB)
    # Then its sender is taken
    assert ([mail.recipients for mail in smtp.mails], len(smtp.sessions)) == ([[BOB]], 1)


def test_the_servers_words_count_though_it_closes_after_them(smtp: SmtpStandIn, client: SmtpClient) -> None:
    def refuse(session: Session) -> None:
        session.reply("554 you are on a list")
        raise Gone

    smtp.on("mail", refuse)
    with pytest.raises(Refused, match="554 you are on a list"):
        send(client)


def test_an_address_with_a_line_break_is_no_command(smtp: SmtpStandIn, client: SmtpClient) -> None:
    with pytest.raises(ValueError, match="line break"):
        send(client, ANN, "<\r\n")
    send(client)
    assert [mail.recipients for mail in smtp.mails] == [[ANN]]


def test_a_time_limit_while_a_mail_is_given_up_leaves_no_answer_behind(
    smtp: SmtpStandIn, client: SmtpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a time limit that strikes when RSET is out and its answer is not read
    def rset(connection: smtplib.SMTP) -> None:
        connection.putcmd("RSET")
        raise SoftTimeLimitExceeded

    smtp.on("mail", "451 later")
    with monkeypatch.context() as patched, pytest.raises(SoftTimeLimitExceeded):
        patched.setattr(smtplib.SMTP, "rset", rset)
        send(client)
    # Then the next mail does not take that answer for one of its own
    send(client)
    assert (len(smtp.mails), len(smtp.sessions)) == (1, 2)


@pytest.mark.parametrize("stage", ["connect", "mail", "rcpt", "data"])
@pytest.mark.parametrize("act", [CLOSE, HANG])
def test_silence_before_the_end_of_the_message_leaves_no_doubt(
    smtp: SmtpStandIn, client: SmtpClient, stage: str, act: Act
) -> None:
    smtp.on(stage, act)
    with pytest.raises(Unreachable):
        send(client)


@pytest.mark.parametrize("act", [CLOSE, HANG])
def test_silence_after_the_end_of_the_message_is_doubt(smtp: SmtpStandIn, client: SmtpClient, act: Act) -> None:
    smtp.on("end", act)
    with pytest.raises(InDoubt):
        send(client)
    # And the connection is not used again
    send(client)
    assert len(smtp.sessions) == 2


def test_a_connection_that_breaks_inside_a_long_message_leaves_no_doubt(smtp: SmtpStandIn, client: SmtpClient) -> None:
    # Given a server that closes while a message arrives that is longer than any buffer
    smtp.on("body", CLOSE)
    with pytest.raises(Unreachable):
        client.send("house@example.org", (ANN,), (b"x" * 70 + b"\r\n") * 300_000, lambda accepted: None)


def test_what_tls_needs_is_not_loaded_without_it(
    smtp: SmtpStandIn, client: SmtpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The system's certificates take longer to read than a mail takes to send
    monkeypatch.setattr(ssl, "create_default_context", pytest.fail)
    send(client)
    assert len(smtp.mails) == 1


def test_nobody_listens(client: SmtpClient, smtp: SmtpStandIn) -> None:
    nobody = SmtpClient(Server("127.0.0.1", 1), timeout=0.5)
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1: .*refused"):
        send(nobody)


def test_what_is_asked_before_the_end_can_stop_the_mail(smtp: SmtpStandIn, client: SmtpClient) -> None:
    # Given a ledger that does not answer when the message is nearly out
    asked: list[set[str]] = []

    def before_end(accepted: set[str]) -> None:
        asked.append(accepted)
        raise RuntimeError("no")

    smtp.on(f"rcpt:{BOB}", "550 no")
    with pytest.raises(RuntimeError):
        client.send("house@example.org", (ANN, BOB), MESSAGE, before_end)
    # Then it was asked for those who would have got it, and the server has nothing
    assert asked == [{ANN}]
    send(client)
    assert len(smtp.mails) == 1


class TestEncryption:
    """TLS from the start, STARTTLS, and a login that is never in clear text."""

    @pytest.fixture(autouse=True)
    def trust(self, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """OpenSSL's own variable: which authorities are trusted."""
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    @pytest.mark.parametrize("tls", [True, False])
    def test_the_login_goes_over_tls(self, certificate: Path, tls: bool) -> None:
        with SmtpStandIn(str(certificate), tls=tls) as server:
            scheme, query = ("smtps", "") if tls else ("smtp", "/?starttls")
            url = f"{scheme}://ann%40house@127.0.0.1:{server.port}{query}"
            send(client_of(server, SMTP_URL=url, SMTP_PASSWORD="hunter2"))
            assert (server.sessions[0].user, server.sessions[0].password) == ("ann@house", "hunter2")
            assert len(server.mails) == 1

    def test_a_login_that_is_refused_is_final_and_shows_no_password(self, certificate: Path) -> None:
        with SmtpStandIn(str(certificate), tls=True) as server:
            server.on("auth", "535 wrong", "535 wrong", "535 wrong")
            url = f"smtps://ann@127.0.0.1:{server.port}"
            with pytest.raises(Refused, match="login: 535 wrong") as caught:
                send(client_of(server, SMTP_URL=url, SMTP_PASSWORD="hunter2"))
            assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"

    def test_a_certificate_that_nobody_vouches_for_gets_no_mail(
        self, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("SSL_CERT_FILE")
        with SmtpStandIn(str(certificate), tls=True) as server:
            with pytest.raises(Unreachable, match="certificate"):
                send(client_of(server, SMTP_URL=f"smtps://127.0.0.1:{server.port}"))
            assert server.mails == []

    def test_a_server_without_starttls_gets_no_mail_where_it_was_asked_for(self, smtp: SmtpStandIn) -> None:
        with pytest.raises(Refused, match="SMTP_URL asks"):
            send(client_of(smtp, SMTP_URL=f"{smtp.url}/?starttls"))
        assert smtp.mails == []


class TestUrl:
    """What `SMTP_URL` can say."""

    @pytest.mark.parametrize(
        ("url", "port"),
        [
            ("smtp://mail.test", 25),
            ("smtps://mail.test", 465),
            ("smtp://ann:secret@mail.test?starttls", 587),
            ("smtps://ann:secret@mail.test:2465/", 2465),
        ],
    )
    def test_the_port_follows_from_the_rest(self, url: str, port: int) -> None:
        assert Server.from_settings(Settings(smtp_url=url)).port == port

    @pytest.mark.parametrize(
        "url",
        [
            "smtp://ann:secret@mail.test",
            "smtp://ann@mail.test/?starttls",
            "smtps://mail.test/?starttls",
            "smtps://mail.test/inbox",
            "smtps://mail.test/?tls=no",
            "smtp://mail.test/?starttls=maybe",
        ],
    )
    def test_what_cannot_be_is_refused_by_the_variables_name(self, url: str) -> None:
        with pytest.raises(ConfigError, match="SMTP_URL") as caught:
            Server.from_settings(Settings(smtp_url=url))
        assert "secret" not in str(caught.value)

    def test_a_password_is_not_shown(self) -> None:
        settings = Settings.load({"SMTP_URL": "smtps://ann:hunter2@mail.test"})
        assert "hunter2" not in f"{settings!r} {Server.from_settings(settings)!r}"


def test_what_a_script_does_by_hand(smtp: SmtpStandIn, client: SmtpClient) -> None:
    # The stand-in itself: a script may have the mail and say nothing
    def take(session: Session) -> None:
        session.take()
        session.reply("250 by hand")

    smtp.on("end", take)
    send(client)
    assert len(smtp.mails) == 1
