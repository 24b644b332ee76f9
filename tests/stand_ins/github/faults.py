"""Trouble on demand: which faults wait, and which request meets one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from random import Random
from threading import Lock
from typing import Any

from tests.stand_ins.github.answer import Answer
from tests.stand_ins.github.kinds import BENDING, KINDS

LONGEST_WAIT = 3_600  # seconds; more is a slip of the hand, not a test


class FaultError(ValueError):
    """A fault that cannot be. `argument` names what is wrong about it."""

    def __init__(self, argument: str, expected: str, got: object) -> None:
        super().__init__(f"{argument}: expected {expected}, got {got!r}")
        self.argument = argument


@dataclass(slots=True)
class Fault:
    """A kind of trouble, and when it strikes."""

    name: str
    arguments: Mapping[str, Any]
    times: int | None  # how often still; None: for ever
    page: int | None
    probability: float
    random: Random

    def strikes(self, page: int, status: int) -> bool:
        if self.page not in (None, page) or (self.name in BENDING and status != 200):
            return False
        return self.probability >= 1 or self.random.random() < self.probability

    def apply(self, answer: Answer, now: float) -> Answer:
        return KINDS[self.name](answer, now, **self.arguments)

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "times": self.times,
            "page": self.page,
            "probability": self.probability,
            **self.arguments,
        }


class Faults:
    """The faults that wait for requests. The oldest that fits a request strikes; at most one does."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: list[Fault] = []

    def add(
        self,
        name: str,
        /,
        *,
        times: int | None = 1,
        page: int | None = None,
        probability: float = 1.0,
        seed: int = 0,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Let the next `times` requests (None: all), of a page or of any, meet a fault, each with a probability.

        Raises FaultError. Gives what was added.
        """
        if not isinstance(name, str) or name not in KINDS:
            raise FaultError("name", f"one of {', '.join(sorted(KINDS))}", name)
        _require(times is None or _whole(times), "times", "a whole number from 1, or null for ever", times)
        _require(page is None or _whole(page), "page", "a whole number from 1, or null for any", page)
        _require(_real(probability) and 0 < probability <= 1, "probability", "a number above 0, at most 1", probability)
        _require(isinstance(seed, int), "seed", "a whole number", seed)
        parameters = signature(KINDS[name]).parameters
        for argument, value in arguments.items():
            known = argument in ARGUMENTS and argument in parameters
            _require(known, argument, f"an argument that {name} knows", value)
            accepts, expected = ARGUMENTS[argument]
            _require(accepts(value), argument, expected, value)
        fault = Fault(name, arguments, times, page, probability, Random(seed))
        added = fault.describe()  # before it can strike
        with self._lock:
            self._waiting.append(fault)
        return added

    def take(self, page: int, status: int) -> Fault | None:
        """The fault that strikes a request for a page that would be answered with a status, if any."""
        with self._lock:
            for fault in self._waiting:
                if fault.strikes(page, status):
                    if fault.times is not None:
                        fault.times -= 1
                    self._waiting = [each for each in self._waiting if each.times != 0]
                    return fault
        return None

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def waiting(self) -> list[dict[str, Any]]:
        with self._lock:
            return [fault.describe() for fault in self._waiting]


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _seconds(value: Any) -> bool:
    return _real(value) and 0 <= value <= LONGEST_WAIT


ARGUMENTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "reset": (_seconds, f"seconds from 0 to {LONGEST_WAIT}"),
    "retry_after": (_seconds, f"seconds from 0 to {LONGEST_WAIT}"),
    "seconds": (_seconds, f"seconds from 0 to {LONGEST_WAIT}"),
    "when": (lambda value: value in ("before_answer", "mid_body"), "before_answer or mid_body"),
}


def _require(holds: bool, argument: str, expected: str, got: object) -> None:
    if not holds:
        raise FaultError(argument, expected, got)
