"""The tasks of `calculator`: small arithmetic, to try things with."""

from datetime import date
from typing import Annotated

from pydantic import Field

from shared.signatures.declaration import signature

#: Whole where it is given whole.
Number = int | Annotated[float, Field(allow_inf_nan=False)]
Days = Annotated[int, Field(ge=-3_000_000, le=3_000_000)]
Seconds = Annotated[float, Field(ge=0, le=20)]


@signature("calculator.add", keeps_result=True)
def add(a: Number, b: Number) -> Number:
    """a + b, told in the task's own log too."""


@signature("calculator.multiply", keeps_result=True)
def multiply(a: Number, b: Number) -> Number:
    """a × b."""


@signature("calculator.add_days", keeps_result=True)
def add_days(days: Days, to: date | None = None) -> date:
    """The day that lies `days` after `to`, which is today (UTC) unless given.

    Raises InvalidArguments where the calendar ends before.
    """


@signature("calculator.total", keeps_result=True)
def total(numbers: list[Number]) -> Number:
    """The sum of all numbers: the body of a chord."""


@signature("calculator.count_down", keeps_result=True)
def count_down(start: Annotated[int, Field(ge=0, le=10)]) -> Number:
    """The sum of all numbers from `start` down to 0. The task takes itself apart: a group of steps replaces it."""


@signature("calculator.wait", keeps_result=True)
def wait(seconds: Seconds, stubborn: bool = False) -> Seconds:
    """Take `seconds`, and give them: to see how revoking and time limits work. `stubborn` goes on at the soft limit."""


@signature("calculator.unsteady", keeps_result=True)
def unsteady(failures: Annotated[int, Field(ge=0, le=10)]) -> int:
    """Fail so many times, and then give the number of the attempt: to see retries."""


@signature("calculator.note")
def note(about: str) -> None:
    """Write a line into the task's own log: to see callbacks."""
