"""Claim, send, record: a mail on its way to each of its recipients."""

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from services.mailer import message
from services.mailer.ledger import Claim, Entry, Ledger, LedgerAway, State, entry_key, event_hash
from services.mailer.message import Attachment, Mail
from services.mailer.policy import POLICIES
from services.mailer.transaction import NotYet, Transaction, for_review
from services.mailer.transport import Transport
from shared import attachments
from shared.errors import Final
from shared.signatures.mailer import MailResult
from shared.storage import Storage

logger = logging.getLogger(__name__)

#: Seconds on top of another worker's lease, so that it is over when we ask again.
AFTER_LEASE = 1.0
#: Seconds after which we ask again in any case: a worker that lives is done long before its lease ends.
LONGEST_PAUSE = 15.0


class NobodyTakesIt(Final):
    """The server refused every recipient. The message has its words."""


@dataclass(frozen=True)
class Attempt:
    """One run of the task that sends a mail."""

    task_id: str
    retries: int


class Delivery:
    """Sends mail effectively once.

    Args:
        ledger: the one that all workers share.
        local: a ledger of this container, for the kinds that go on without the shared one; None where `ledger` is it.
        storage: where attachments lie.
        sender: `MAIL_FROM`.
        lease: seconds.
        attachments_limit: bytes.
    """

    def __init__(
        self,
        transport: Transport,
        ledger: Ledger,
        local: Ledger | None,
        storage: Storage,
        *,
        sender: str,
        lease: float,
        attachments_limit: int,
    ) -> None:
        self._transport = transport
        self._ledger = ledger
        self._local = local
        self._storage = storage
        self._sender = sender
        self._lease = lease
        self._attachments_limit = attachments_limit

    def deliver(self, mail: Mail, attempt: Attempt) -> MailResult:
        """Send `mail` to those who do not have it; what became of each recipient.

        Raises:
            NotYet, Deferred, Unreachable: try again; who has it will not get it again.
            NobodyTakesIt, Refused: the server says never.
            ForReview: see there.
            InvalidArguments: an attachment is missing or too large.
        """
        data = message.encode(mail, self._sender, self._read(mail))
        policy = POLICIES[mail.kind]
        claim = Claim(
            owner=secrets.token_hex(8),
            event=attempt.task_id,
            lease=self._lease,
            park=policy.park,
            fresh=attempt.retries == 0,
        )
        try:
            return self._deliver(mail, data, claim, self._ledger)
        except LedgerAway as error:
            if policy.needs_redis or self._local is None:
                raise NotYet(f"the ledger is away, and {mail.kind} mail waits for it: {error}") from error
            logger.warning("The ledger is away, %s mail goes on with a local one: %s", mail.kind, error)
        return self._deliver(mail, data, claim, self._local)

    def release(self, mail: str) -> int:
        """Let the mail with this hash be sent again where it is kept for review; gives how many recipients."""
        return self._ledger.forget_parked(entry_key(mail, ""))

    def _read(self, mail: Mail) -> list[Attachment]:
        try:
            attachments.check(self._storage, mail.attachments, self._attachments_limit)
            return [Attachment(name, self._storage.read(name)) for name in mail.attachments]
        except OSError as error:
            raise NotYet(f"the attachments cannot be read: {error}") from error

    def _deliver(self, mail: Mail, data: bytes, claim: Claim, ledger: Ledger) -> MailResult:
        known = event_hash(mail.event, mail.kind)
        keys = {recipient: entry_key(known, recipient) for recipient in dict.fromkeys(mail.to)}
        found = dict(zip(keys, ledger.claim(list(keys.values()), claim), strict=True))
        ours = [recipient for recipient, entry in found.items() if entry.state is State.CLAIMED]
        refused: Mapping[str, str] = {}
        deferred: Mapping[str, str] = {}
        if ours:
            transaction = Transaction(self._transport, ledger, claim, keys, message.message_id(mail, self._sender))
            refused, deferred = transaction.run(self._sender, ours, data)
        result = self._result(mail, claim, found, refused, deferred)
        self._raise_what_remains(found, deferred, result)
        return result

    def _result(
        self,
        mail: Mail,
        claim: Claim,
        found: Mapping[str, Entry],
        refused: Mapping[str, str],
        deferred: Mapping[str, str],
    ) -> MailResult:
        earlier = {recipient: entry.note for recipient, entry in found.items() if entry.state is State.REFUSED}
        taken = [recipient for recipient, entry in found.items() if entry.state is State.CLAIMED]
        had = [recipient for recipient, entry in found.items() if entry.state is State.SENT]
        return MailResult(
            message_id=message.message_id(mail, self._sender),
            sent=[recipient for recipient in taken if recipient not in refused and recipient not in deferred]
            + [recipient for recipient in had if found[recipient].event == claim.event],
            already=[recipient for recipient in had if found[recipient].event != claim.event],
            refused={**earlier, **refused},
        )

    def _raise_what_remains(self, found: Mapping[str, Entry], deferred: Mapping[str, str], result: MailResult) -> None:
        busy = {recipient: entry for recipient, entry in found.items() if entry.state is State.BUSY}
        parked = [recipient for recipient, entry in found.items() if entry.state is State.PARKED]
        if deferred:
            raise NotYet(_list(deferred))
        if busy:
            wait = min(max(entry.wait for entry in busy.values()) + AFTER_LEASE, LONGEST_PAUSE)
            raise NotYet(f"another worker holds the mail to {', '.join(busy)}", wait)
        if parked:
            raise for_review(parked, f"The mail {result.message_id}")
        if result.refused and not result.sent and not result.already:
            raise NobodyTakesIt(_list(result.refused))


def _list(recipients: Mapping[str, str]) -> str:
    return "; ".join(f"{recipient}: {words}" for recipient, words in recipients.items())
