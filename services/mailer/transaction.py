"""One mail to the server, and every outcome of it into the ledger."""

import logging
from collections.abc import Collection, Mapping

from services.mailer.ledger import Claim, LeaseLost, Ledger, LedgerAway
from services.mailer.smtp_dialogue import InDoubt, SomeDeferred
from services.mailer.transport import Transport
from shared.errors import Final, Retryable

logger = logging.getLogger(__name__)


class NotYet(Retryable):
    """Some recipients have to wait: for the mail server, for Redis, or for another worker's lease."""


class ForReview(Final):
    """A worker died, or the server fell silent, at the one moment that leaves a doubt, and this kind of mail is not
    sent twice. The message says how to go on."""


class Transaction:
    """A mail to those of its recipients whose entries are claimed.

    Args:
        keys: of the ledger, for each recipient.
    """

    def __init__(
        self, transport: Transport, ledger: Ledger, claim: Claim, keys: Mapping[str, str], message_id: str
    ) -> None:
        self._transport = transport
        self._ledger = ledger
        self._claim = claim
        self._keys = keys
        self._message_id = message_id

    def run(self, sender: str, recipients: Collection[str], data: bytes) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Gives who is refused and who is deferred, with the server's words.

        Raises:
            NotYet, Deferred, Unreachable: nobody has it for sure, or this kind of mail may come twice.
            Refused: the server says never.
            ForReview: see there.
            LedgerAway: before anything was sent.
        """
        pending = set(recipients)
        ended: set[str] = set()

        def before_end(accepted: set[str]) -> None:
            self._ledger.begin(self._entries(accepted), self._claim)
            ended.update(accepted)

        refused: Mapping[str, str] = {}
        deferred: Mapping[str, str] = {}
        try:
            refused = self._transport.send(sender, recipients, data, before_end)
        except SomeDeferred as some:
            refused, deferred = some.refused, some.deferred
        except LeaseLost as error:
            raise NotYet(f"another worker has claimed the mail meanwhile: {error}") from error
        except InDoubt as error:
            self._settle_doubt(pending, ended, error)
        except (Retryable, Final):
            self._give_back(pending)
            raise
        except BaseException:
            # A time limit can strike anywhere: what may have been sent stays in doubt.
            self._give_back(pending - ended)
            raise
        self._record(pending - refused.keys() - deferred.keys(), refused)
        self._give_back(deferred)
        return refused, deferred

    def _record(self, sent: Collection[str], refused: Mapping[str, str]) -> None:
        try:
            self._ledger.record(
                self._claim, sent=self._entries(sent), refused={self._keys[one]: why for one, why in refused.items()}
            )
        except LedgerAway as error:
            # The server's answer is known: to fail here would only send the mail again.
            logger.warning("Cannot record that the mail to %s was sent: %s", ", ".join(sorted(sent)), error)

    def _settle_doubt(self, pending: set[str], ended: set[str], error: InDoubt) -> None:
        if not self._claim.park:
            self._give_back(pending)
            raise NotYet(f"{error}; it will be sent again") from error
        self._give_back(pending - ended)
        try:
            self._ledger.park(self._entries(ended), self._claim)
        except LedgerAway as away:
            # Entries in doubt are parked by whoever claims them next.
            logger.warning("Cannot keep the mail for review yet: %s", away)
        raise for_review(ended, f"The mail {self._message_id} ({error})") from error

    def _give_back(self, recipients: Collection[str]) -> None:
        if not recipients:
            return
        try:
            self._ledger.release(self._entries(recipients), self._claim)
        except LedgerAway as error:
            # The lease ends by itself.
            logger.warning("Cannot give the mail back: %s", error)

    def _entries(self, recipients: Collection[str]) -> list[str]:
        return [self._keys[recipient] for recipient in recipients]


def for_review(recipients: Collection[str], what: str) -> ForReview:
    """The error for `what` that may have reached these."""
    return ForReview(
        f"{what} to {', '.join(sorted(recipients))} may have arrived, and is not sent twice: look there, and if it has "
        "not, call mailer.release with its Message-ID and replay the dead letter"
    )
