"""Every case as a value: what is done, what must hold, how large it is, and which guard it cannot do without."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.acts import kills
from tests.chaos.stage import Scale, Stage


@dataclass(frozen=True)
class Control:
    """The proof that a case can fail: the same case with a guard taken away.

    Attributes:
        without: the guards, split by commas.
        sees: the kind of complaint that the oracle must make.
        short: whether `make test` plays it too.
    """

    without: str
    sees: str
    short: bool = False


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        name: `make chaos CASE=<name>` plays it alone.
        injection: what is done, for people.
        passes: what must hold besides "nothing lost, no effect twice, no innocent dead letter".
        act: does it.
        short, long: how large it is in `make test`, and in `make chaos`.
        control: how it can fail.
        services: whose workers run the tasks that are counted.
        heartbeat: seconds between two heartbeats of workers, in the short form; None as in the product.
    """

    name: str
    injection: str
    passes: str
    act: Callable[[Stage], None]
    short: Scale
    long: Scale
    control: Control
    services: tuple[str, ...] = ("calculator",)
    heartbeat: int | None = None


CASES: tuple[Case, ...] = (
    Case(
        name="kill-child",
        injection="`kill -9` of a pool child in the middle of its task",
        passes="≤ 1 effect a key, no innocent dead letters",
        act=kills.pool_child,
        short=Scale(tasks=40, times=3, work=(0.3, 1.0), bound=90),
        long=Scale(tasks=400, times=20, work=(0.3, 2.0), bound=900),
        control=Control("late_ack", sees="lost", short=True),
    ),
    Case(
        name="kill-container",
        injection="`kill -9` of the whole container",
        passes="≤ 1 effect a key, no innocent dead letters",
        act=kills.whole_container,
        short=Scale(tasks=60, times=2, work=(0.3, 1.0), bound=120),
        long=Scale(tasks=1000, times=20, work=(0.3, 2.0), bound=1200),
        control=Control("late_ack", sees="lost"),
    ),
)
