"""What each kind of mail is worth when something breaks."""

from dataclasses import dataclass

from shared.signatures.mailer import Kind


@dataclass(frozen=True)
class Policy:
    """How a kind of mail is treated.

    Attributes:
        park: after a crash that leaves a doubt, keep the mail for review (at most once); else send it again (at least
            once).
        needs_redis: without the shared ledger, wait for it; else go on with one of this container, which knows nothing
            of what other containers have sent.
    """

    park: bool = False
    needs_redis: bool = True


POLICIES: dict[Kind, Policy] = {
    # To people outside: an invoice that comes twice is worse than one that a person looks at first.
    "notice": Policy(park=True),
    "report": Policy(),
    # Redis may be what the error is about.
    "error": Policy(needs_redis=False),
    "digest": Policy(),
    "test": Policy(needs_redis=False),
}
