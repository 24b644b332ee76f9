"""Which dead letters a command means."""

from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from shared.dead_letters.letter import DeadLetter
from shared.dead_letters.shelf import queues
from shared.errors import Error
from shared.topology import UNROUTED_QUEUE, dead_letter_queue, service

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class InvalidAge(Error, ValueError):
    """An age is not of the form that the message tells."""


@dataclass(frozen=True)
class Selection:
    """All of what is given must hold; what is left empty always does.

    Attributes:
        services: names of services, and `unrouted`.
        tasks: names of tasks, or patterns as a shell's.
        reasons: of `Reason`.
        ids: of tasks, or beginnings of letters' keys.
        older_than, newer_than: seconds since the letter was given up.
    """

    services: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    older_than: float | None = None
    newer_than: float | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing narrows it down."""
        return self == Selection()

    def queues(self) -> tuple[str, ...]:
        """The queues to look through.

        Raises:
            TopologyError: there is no service called so.
        """
        named = (name if name == UNROUTED_QUEUE else dead_letter_queue(service(name).name) for name in self.services)
        return tuple(named) or queues()

    def __contains__(self, letter: DeadLetter) -> bool:
        age = letter.age(datetime.now(UTC))
        return (
            (not self.tasks or any(fnmatchcase(letter.task, pattern) for pattern in self.tasks))
            and (not self.reasons or letter.reason in self.reasons)
            and (not self.ids or any(letter.id == one or letter.key.startswith(one) for one in self.ids))
            and (self.older_than is None or age >= self.older_than)
            and (self.newer_than is None or age < self.newer_than)
        )


def seconds(age: str) -> float:
    """`90s`, `15m`, `2h`, `3d` or `1w` as seconds.

    Raises:
        InvalidAge: it is none of these.
    """
    number, unit = age[:-1], age[-1:]
    if unit not in _UNITS or not number.isascii() or not number.isdecimal():
        raise InvalidAge(f"{age!r} is no age: write a number and one of {' '.join(_UNITS)}, as in 90s, 15m, 2h or 3d")
    return float(number) * _UNITS[unit]
