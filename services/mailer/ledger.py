"""What is known of each mail to each recipient, so that no crash sends it twice unseen, or never.

An entry goes `claimed` → `sending` → `sent`, or `refused`. SMTP has one moment that nobody can look into: between the
end of the message and the server's answer. An entry is `sending` from just before that moment, so a worker that dies
earlier has surely sent nothing, and only one that dies inside it leaves a doubt. What to do about a doubt is the
policy of the mail's kind: claim it again, or keep it as `parked` for a person.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

#: Seconds that an entry is kept after its last change, which is how long a dedup key counts.
KEEP = 7 * 24 * 3600
#: Seconds that a mail waits for its review.
KEEP_PARKED = 30 * 24 * 3600


class State(StrEnum):
    """What a claim found."""

    CLAIMED = "claimed"
    """It is the caller's now."""
    BUSY = "busy"
    """Another worker has claimed it, and its lease still runs."""
    SENT = "sent"
    REFUSED = "refused"
    """The server said 5xx at an earlier attempt of the same task."""
    PARKED = "parked"
    """A worker died at the moment of doubt: a person decides."""


@dataclass(frozen=True)
class Entry:
    """What a claim found of one key.

    Attributes:
        event: the task that made the entry what it is.
        note: the server's words where it refused.
        wait: seconds until the lease of the other worker ends.
    """

    state: State
    event: str = ""
    note: str = ""
    wait: float = 0.0


@dataclass(frozen=True)
class Claim:
    """Who claims, and for how long.

    Attributes:
        owner: this attempt, and no other.
        event: the task, at all its attempts.
        lease: seconds after which the owner is taken for dead.
        park: whether an entry in doubt is kept for review; else it is claimed again.
        fresh: the task's first attempt, so what was refused before is tried anew: somebody may have mended it.
    """

    owner: str
    event: str
    lease: float
    park: bool
    fresh: bool


class LedgerAway(Exception):
    """The ledger does not answer."""


class LeaseLost(Exception):
    """Another worker took this one for dead, and has claimed the mail."""


class Ledger(Protocol):
    """Every method is one atomic step over all its keys, and raises LedgerAway."""

    def claim(self, keys: Sequence[str], claim: Claim) -> list[Entry]:
        """Claim what is free; for each key, in their order, what was found."""

    def begin(self, keys: Collection[str], claim: Claim) -> None:
        """From here on a crash leaves a doubt. Raises LeaseLost, and then changes nothing."""

    def record(self, claim: Claim, sent: Collection[str] = (), refused: Mapping[str, str] | None = None) -> None:
        """What the server said: `sent` holds whoever owns the entry by now, `refused` where it is still ours."""

    def release(self, keys: Collection[str], claim: Claim) -> None:
        """The server has surely not taken these: whoever comes next may claim them."""

    def park(self, keys: Collection[str], claim: Claim) -> None:
        """Nobody knows whether the server has taken these: keep them for review."""

    def forget_parked(self, prefix: str) -> int:
        """Free the parked entries whose keys begin so; gives how many."""


def event_hash(event: str, kind: str) -> str:
    """What a mail is known by: equal for equal events of one kind, and safe in a header."""
    return hashlib.sha256(f"{event}\0{kind}".encode()).hexdigest()[:40]


def entry_key(mail: str, recipient: str) -> str:
    """The ledger's key of the mail with this `event_hash` to one recipient."""
    return f"{mail}:{recipient}"
