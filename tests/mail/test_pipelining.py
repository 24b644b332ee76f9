"""Commands that are not waited for one by one, where the server offers PIPELINING. Source: RFC 2920."""

import pytest

from services.mailer.smtp import Server, SmtpClient, Unreachable
from services.mailer.smtp_dialogue import GROUP, Deferred, Refused, SomeDeferred
from tests.stand_ins.smtp import CLOSE, Gone, Session, SmtpStandIn
from tests.waiting import eventually

ANN, BOB = "ann@example.org", "bob@example.org"


def client_of(server: SmtpStandIn) -> SmtpClient:
    return SmtpClient(Server("127.0.0.1", server.port), timeout=0.5)


@pytest.fixture
def client(smtp: SmtpStandIn) -> SmtpClient:
    """Of a server that offers it."""
    return client_of(smtp)


def send(client: SmtpClient, *recipients: str) -> dict[str, str]:
    return client.send("house@example.org", recipients, b"Subject: hello\r\n\r\n", lambda accepted: None)


def test_a_mails_commands_come_together(smtp: SmtpStandIn, client: SmtpClient) -> None:
    # Given a server that answers MAIL only when it has seen what comes after it
    arrived: list[str] = []

    def look(session: Session) -> None:
        arrived.extend(session.ahead())
        session.reply("250 fine")

    smtp.on("mail", look)
    # When a mail to two is sent
    send(client, ANN, BOB)
    # Then all commands are there
    assert arrived == [f"RCPT TO:<{ANN}>", f"RCPT TO:<{BOB}>", "DATA"]


def test_many_recipients_come_in_groups(smtp: SmtpStandIn, client: SmtpClient) -> None:
    # Given a mail to more recipients than one write may have
    everybody = [f"user{number}@example.org" for number in range(2 * GROUP)]
    groups: list[int] = []

    def look(session: Session) -> None:
        groups.append(1 + len(session.ahead()))
        session.reply("250 fine")

    smtp.on("mail", look)
    smtp.on(f"rcpt:{everybody[GROUP - 1]}", look)
    smtp.on(f"rcpt:{everybody[1]}", "550 no such user")
    smtp.on(f"rcpt:{everybody[-1]}", "550 no such user")
    # When it is sent
    refused = send(client, *everybody)
    # Then the answers of each group are read before the next is written, and each answer is its recipient's
    assert groups == [GROUP, GROUP]
    assert sorted(refused) == sorted([everybody[1], everybody[-1]])
    assert smtp.mails[0].recipients == [one for one in everybody if one not in refused]


@pytest.mark.parametrize("stage", ["mail", "rcpt"])
def test_a_server_that_takes_data_for_nobody_gets_no_byte_of_it(
    smtp: SmtpStandIn, client: SmtpClient, stage: str
) -> None:
    # Given a server that defers the sender, or the recipient, and takes DATA all the same
    got: list[bytes] = []

    def take_data(session: Session) -> None:
        session.reply("354 go ahead")
        got.append(session.lines.read())
        raise Gone

    smtp.on(stage, "451 not now")
    smtp.on("data", take_data)
    # When a mail is sent
    with pytest.raises((Deferred, SomeDeferred), match="451 not now"):
        send(client, ANN)
    # Then the connection is closed, with nothing after DATA, and the next mail goes over a new one
    eventually(lambda: got == [b""])
    send(client, ANN)
    assert (len(smtp.mails), len(smtp.sessions)) == (1, 2)


def test_a_connection_outlives_a_refused_sender(smtp: SmtpStandIn, client: SmtpClient) -> None:
    smtp.on("mail", "451 not now")
    with pytest.raises(Deferred):
        send(client, ANN, BOB)
    send(client, ANN)
    assert (len(smtp.mails), len(smtp.sessions)) == (1, 1)


def test_a_server_that_does_not_offer_it_gets_one_command_at_a_time() -> None:
    # Given a server that refuses the sender
    with SmtpStandIn(pipelining=False) as server:
        server.on("mail", "550 no")
        server.on("rcpt", CLOSE)
        # Then nothing comes after it but the next mail
        client = client_of(server)
        with pytest.raises(Refused):
            send(client, ANN)
        with pytest.raises(Unreachable):
            send(client, ANN)
        assert len(server.sessions) == 1
