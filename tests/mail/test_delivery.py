"""A mail from its claim to its record, over a real connection and each ledger."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.mailer.delivery import Attempt, Delivery, NobodyTakesIt
from services.mailer.ledger import Ledger
from services.mailer.ledger_redis import RedisLedger
from services.mailer.ledger_sqlite import SqliteLedger
from services.mailer.message import Mail
from services.mailer.smtp import Server, SmtpClient, Unreachable
from services.mailer.smtp_dialogue import Deferred, Refused
from services.mailer.transaction import ForReview, NotYet
from shared.errors import InvalidArguments
from shared.signatures.mailer import Kind
from shared.storage import Storage
from tests.servers import OwnRedis
from tests.stand_ins.smtp import CLOSE, HANG, Act, Session, SmtpStandIn

ANN, BOB, EVE = "ann@example.org", "bob@example.org", "eve@example.org"
#: A kind that may come twice, and one that must not.
AGAIN: Kind = "report"
ONCE: Kind = "notice"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Where attachments lie."""
    return Storage(str(tmp_path / "reports"))


@pytest.fixture
def make(smtp: SmtpStandIn, storage: Storage) -> Callable[..., Delivery]:
    """Makes what a worker's process has; several of them are several workers."""

    def make(ledger: Ledger, local: Ledger | None = None, limit: int = 1000) -> Delivery:
        client = SmtpClient(Server("127.0.0.1", smtp.port), timeout=0.5)
        sender = "House <house@example.org>"
        return Delivery(client, ledger, local, storage, sender=sender, lease=60, attachments_limit=limit)

    return make


@pytest.fixture
def delivery(make: Callable[..., Delivery], ledger: Ledger) -> Delivery:
    """A worker."""
    return make(ledger)


def mail(*to: str, event: str = "key", kind: Kind = AGAIN, attachments: tuple[str, ...] = ()) -> Mail:
    return Mail(event, kind, to or (ANN,), "subject", "text", attachments=attachments)


def attempt(task_id: str = "task", retries: int = 0) -> Attempt:
    return Attempt(task_id, retries)


def test_a_mail_goes_once_for_its_key(smtp: SmtpStandIn, delivery: Delivery) -> None:
    # Given a mail that was sent
    assert delivery.deliver(mail(ANN), attempt("one")).sent == [ANN]
    # When another task comes with the same key, and the first one's message comes again
    other = delivery.deliver(mail(ANN, BOB), attempt("two"))
    again = delivery.deliver(mail(ANN), attempt("one"))
    # Then only who did not have it gets it, and the answers say so
    assert (other.sent, other.already) == ([BOB], [ANN])
    assert (again.sent, again.already) == ([ANN], [])
    assert [received.recipients for received in smtp.mails] == [[ANN], [BOB]]


def test_a_mail_asks_the_ledger_three_times(
    make: Callable[..., Delivery], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a ledger each of whose steps is a round trip
    asked: list[str] = []

    def count(step: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            asked.append(step)
            return method(*arguments, **named)

        return counted

    for step in ("claim", "begin", "record", "release", "park"):
        monkeypatch.setattr(ledger, step, count(step, getattr(ledger, step)))
    # When a mail goes out to everybody
    make(ledger).deliver(mail(ANN, BOB), attempt())
    # Then nothing is given back, and nobody asks for it
    assert asked == ["claim", "begin", "record"]


def test_the_same_key_of_another_kind_is_another_mail(smtp: SmtpStandIn, delivery: Delivery) -> None:
    delivery.deliver(mail(kind=AGAIN), attempt())
    delivery.deliver(mail(kind=ONCE), attempt())
    assert len({received.message["Message-ID"] for received in smtp.mails}) == 2


def test_every_attempt_has_the_same_message_id(smtp: SmtpStandIn, delivery: Delivery) -> None:
    def take_and_defer(session: Session) -> None:
        session.take()
        session.reply("451 busy")

    smtp.on("end", take_and_defer)
    with pytest.raises(Deferred):
        delivery.deliver(mail(), attempt())
    result = delivery.deliver(mail(), attempt(retries=1))
    assert [received.message["Message-ID"] for received in smtp.mails] == [result.message_id] * 2


def test_a_partly_refused_list_goes_to_the_rest_and_the_result_says_so(smtp: SmtpStandIn, delivery: Delivery) -> None:
    smtp.on(f"rcpt:{BOB}", "550 no such user")
    result = delivery.deliver(mail(ANN, BOB), attempt())
    assert (result.sent, result.refused) == ([ANN], {BOB: "550 no such user"})


def test_only_who_was_deferred_is_tried_again(smtp: SmtpStandIn, delivery: Delivery) -> None:
    # Given three recipients: one is served, one has to wait, one is refused
    smtp.on(f"rcpt:{BOB}", "450 greylisted")
    smtp.on(f"rcpt:{EVE}", "550 no such user")
    with pytest.raises(NotYet, match=f"{BOB}: 450 greylisted"):
        delivery.deliver(mail(ANN, BOB, EVE), attempt())
    # When the task tries again
    result = delivery.deliver(mail(ANN, BOB, EVE), attempt(retries=1))
    # Then only the one who waited gets the mail, and the result has all of them
    assert [received.recipients for received in smtp.mails] == [[ANN], [BOB]]
    assert (set(result.sent), result.refused) == ({ANN, BOB}, {EVE: "550 no such user"})


def test_a_mail_that_everybody_refuses_is_final_until_it_is_replayed(smtp: SmtpStandIn, delivery: Delivery) -> None:
    # Given a server that knows neither of the recipients
    smtp.on("rcpt", "550 who?", "550 who?")
    with pytest.raises(NobodyTakesIt, match=r"550 who\?"):
        delivery.deliver(mail(ANN, BOB), attempt())
    # When somebody has mended the server, and replays the dead letter
    result = delivery.deliver(mail(ANN, BOB), attempt())
    # Then it goes out
    assert set(result.sent) == {ANN, BOB}


def test_a_mail_that_the_server_will_not_have_is_final_and_can_be_replayed(
    smtp: SmtpStandIn, delivery: Delivery
) -> None:
    smtp.on("end", "552 too large")
    with pytest.raises(Refused, match="552 too large"):
        delivery.deliver(mail(kind=ONCE), attempt())
    assert delivery.deliver(mail(kind=ONCE), attempt()).sent == [ANN]


@pytest.mark.parametrize("kind", [AGAIN, ONCE])
@pytest.mark.parametrize("act", [CLOSE, HANG, "421 closing", "451 later"])
@pytest.mark.parametrize("stage", ["connect", "mail", "data"])
def test_what_breaks_before_the_end_is_simply_tried_again(
    smtp: SmtpStandIn, delivery: Delivery, stage: str, act: Act, kind: Kind
) -> None:
    smtp.on(stage, act)
    with pytest.raises((Unreachable, Deferred)):
        delivery.deliver(mail(kind=kind), attempt())
    assert delivery.deliver(mail(kind=kind), attempt(retries=1)).sent == [ANN]


@pytest.mark.parametrize("act", [CLOSE, HANG])
def test_in_doubt_one_kind_is_sent_again(smtp: SmtpStandIn, delivery: Delivery, act: Act) -> None:
    # Given a server that falls silent at the end of the message
    smtp.on("end", act)
    with pytest.raises(NotYet, match="it will be sent again"):
        delivery.deliver(mail(kind=AGAIN), attempt())
    # Then the next attempt sends it
    assert delivery.deliver(mail(kind=AGAIN), attempt(retries=1)).sent == [ANN]


@pytest.mark.parametrize("act", [CLOSE, HANG])
def test_in_doubt_the_other_kind_is_kept_for_review(smtp: SmtpStandIn, delivery: Delivery, act: Act) -> None:
    # Given a server that falls silent at the end of the message
    smtp.on("end", act)
    with pytest.raises(ForReview, match=r"mailer\.release"):
        delivery.deliver(mail(ANN, BOB, kind=ONCE), attempt())
    # Then no attempt, no replay and no other task of the key sends it
    for again in (attempt(retries=1), attempt(), attempt("other")):
        with pytest.raises(ForReview):
            delivery.deliver(mail(ANN, BOB, kind=ONCE), again)
    assert smtp.mails == []


def test_a_person_lets_it_go(smtp: SmtpStandIn, delivery: Delivery) -> None:
    # Given a mail that is kept for review
    smtp.on("end", CLOSE)
    with pytest.raises(ForReview) as caught:
        delivery.deliver(mail(ANN, BOB, kind=ONCE), attempt())
    # When somebody has looked, and releases it by the Message-ID in the error
    message_id = str(caught.value).partition("<")[2].partition("@")[0]
    assert delivery.release(message_id) == 2
    # Then its replay sends it
    assert set(delivery.deliver(mail(ANN, BOB, kind=ONCE), attempt()).sent) == {ANN, BOB}


def test_two_workers_with_one_mail_send_it_once(
    smtp: SmtpStandIn, make: Callable[..., Delivery], ledger: Ledger
) -> None:
    # Given a worker in the middle of a mail
    other_saw: list[BaseException] = []

    def meanwhile(session: Session) -> None:
        # When another worker gets the same message
        with pytest.raises(NotYet) as caught:
            make(ledger).deliver(mail(), attempt())
        other_saw.append(caught.value)
        session.take()
        session.reply("250 taken")

    smtp.on("end", meanwhile)
    make(ledger).deliver(mail(), attempt())
    # Then that one waits for the lease, and the mail goes once
    assert isinstance(other_saw[0], NotYet) and 1 < (other_saw[0].retry_after or 0) <= 15
    assert make(ledger).deliver(mail(), attempt()).sent == [ANN]
    assert len(smtp.mails) == 1


class TestWithoutRedis:
    """The shared ledger goes away at each step."""

    @pytest.fixture
    def shared(self, redis: OwnRedis) -> Ledger:
        """The ledger of all workers."""
        return RedisLedger(redis.client)

    @pytest.fixture
    def worker(self, make: Callable[..., Delivery], shared: Ledger, tmp_path: Path) -> Delivery:
        """A worker with both ledgers."""
        return make(shared, SqliteLedger(tmp_path / "local.sqlite"))

    @pytest.fixture
    def gone(self, redis: OwnRedis) -> Callable[[], None]:
        """Takes Redis away; it is back, and empty, after the test."""
        return redis.stop

    @pytest.fixture(autouse=True)
    def back(self, redis: OwnRedis) -> object:
        """For the tests after this one."""
        yield
        redis.stop()
        redis.start()

    def test_an_error_is_mailed_all_the_same_and_once(
        self, smtp: SmtpStandIn, worker: Delivery, gone: Callable[[], None]
    ) -> None:
        gone()
        for _ in range(2):
            assert worker.deliver(mail(kind="error"), attempt()).sent == [ANN]
        assert len(smtp.mails) == 1

    @pytest.mark.parametrize("kind", [AGAIN, ONCE])
    def test_other_mail_waits(self, smtp: SmtpStandIn, worker: Delivery, gone: Callable[[], None], kind: Kind) -> None:
        gone()
        with pytest.raises(NotYet, match="ledger is away"):
            worker.deliver(mail(kind=kind), attempt())
        assert smtp.sessions == []

    def test_it_goes_away_before_the_end_and_nothing_is_sent(
        self, smtp: SmtpStandIn, worker: Delivery, gone: Callable[[], None]
    ) -> None:
        def lose(session: Session) -> None:
            gone()
            session.reply("354 go ahead")

        smtp.on("data", lose)
        with pytest.raises(NotYet, match="ledger is away"):
            worker.deliver(mail(kind=ONCE), attempt())
        assert smtp.mails == []

    @pytest.mark.parametrize("kind", [AGAIN, ONCE, "error"])
    def test_it_goes_away_after_the_end_and_the_mail_is_sent_once(
        self, smtp: SmtpStandIn, worker: Delivery, gone: Callable[[], None], kind: Kind
    ) -> None:
        # Given a ledger that is away when the server has answered
        def lose(session: Session) -> None:
            session.take()
            gone()
            session.reply("250 taken")

        smtp.on("end", lose)
        # Then the answer, which is known, counts
        assert worker.deliver(mail(kind=kind), attempt()).sent == [ANN]
        assert len(smtp.mails) == 1


class TestAttachments:
    """Files by reference."""

    def test_a_file_goes_with_the_mail(self, smtp: SmtpStandIn, delivery: Delivery, storage: Storage) -> None:
        content = "C,x/y\r\nRust,ü/z\r\n".encode()
        storage.write("week/report.csv", content)
        delivery.deliver(mail(attachments=("week/report.csv",)), attempt())
        attached = next(iter(smtp.mails[0].message.iter_attachments()))
        assert (attached.get_filename(), attached.get_content_type()) == ("report.csv", "text/csv")
        assert attached.get_payload(decode=True) == content

    def test_a_file_that_is_missing_is_refused(self, smtp: SmtpStandIn, delivery: Delivery) -> None:
        with pytest.raises(InvalidArguments, match=r"attachments: 'none\.csv' is no file"):
            delivery.deliver(mail(attachments=("none.csv",)), attempt())
        assert smtp.sessions == []

    def test_files_that_are_too_large_together_are_refused(self, delivery: Delivery, storage: Storage) -> None:
        for name in ("a", "b"):
            storage.write(name, b"x" * 501)
        with pytest.raises(InvalidArguments, match=r"'b' they have 1002 bytes, but ATTACHMENTS_LIMIT is 1000"):
            delivery.deliver(mail(attachments=("a", "b")), attempt())

    def test_a_link_that_leads_out_is_refused(self, delivery: Delivery, storage: Storage, tmp_path: Path) -> None:
        storage.write("x", b"")
        (tmp_path / "secret").write_text("hunter2")
        (tmp_path / "reports" / "link").symlink_to(tmp_path / "secret")
        with pytest.raises(InvalidArguments, match="leads out of the storage"):
            delivery.deliver(mail(attachments=("link",)), attempt())
