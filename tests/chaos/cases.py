"""Every case as a value: what is done, what must hold, how large it is, and which guard it cannot do without."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.acts import bodies, broker, kills, malformed, network, nodes, poison, pools, redis, rights, schedule
from tests.chaos.stage import Scale, Stage


@dataclass(frozen=True)
class Control:
    """The proof that a case can fail: the same case with a guard taken away.

    Attributes:
        without: the guards, split by commas.
        sees: the kind of complaint that the oracle must make.
        scale: how large it is; None as the short form.
    """

    without: str
    sees: str
    scale: Scale | None = None


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
        in_tests: whether `make test` plays it.
        control_in_tests: whether `make test` plays its control.
        lane_in_tests: whether `make test` plays it with every task in the fast lane too.
        processes: why it is no case for the fast lane, whose pools run tasks in the worker's own process; else empty.
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
    in_tests: bool = False
    control_in_tests: bool = False
    lane_in_tests: bool = False
    processes: str = ""


_ITS_WORKER = (
    "such a task ends its worker, and not a process of its pool alone: tests/fast_lane/test_poison.py plays it"
)

CASES: tuple[Case, ...] = (
    Case(
        name="kill-child",
        injection="`kill -9` of a pool child in the middle of its task",
        passes="≤ 1 effect a key, no innocent dead letters",
        act=kills.pool_child,
        short=Scale(tasks=40, times=3, work=(0.3, 1.0), bound=300),
        long=Scale(tasks=400, times=20, work=(0.3, 2.0), bound=900),
        control=Control("late_ack", sees="lost"),
        in_tests=True,
        control_in_tests=True,
        processes="there is no child that could be killed: kill-container kills the worker",
    ),
    Case(
        name="kill-container",
        injection="`kill -9` of the whole container",
        passes="≤ 1 effect a key, no innocent dead letters",
        act=kills.whole_container,
        short=Scale(tasks=60, times=2, work=(0.3, 1.0), bound=300),
        long=Scale(tasks=1000, times=20, work=(0.3, 2.0), bound=1200),
        control=Control("late_ack", sees="lost"),
        in_tests=True,
    ),
    Case(
        name="cut-off",
        injection="worker cut from the broker by DROP",
        passes="consumes again within 2 × heartbeat + 30 s",
        act=network.cut_off,
        short=Scale(tasks=40, down=15, work=(0.3, 1.0), bound=300),
        long=Scale(tasks=300, down=180, work=(0.3, 2.0), bound=600),
        control=Control("effect_key", sees="twice"),
        heartbeat=5,
        in_tests=True,
    ),
    Case(
        name="lossy-line",
        injection="5 % loss and 100 ms between worker and broker, then the container is killed",
        passes="consumes on",
        act=network.lossy,
        short=Scale(tasks=2000, down=4, work=(0.3, 1.0), rate=6, bound=300),
        long=Scale(tasks=20_000, down=120, work=(0.3, 2.0), rate=3, bound=900),
        control=Control("late_ack", sees="lost"),
    ),
    Case(
        name="redis-restart",
        injection="Redis stopped and started",
        passes="publishing unaffected; a chord's body runs once, or its caller gets an error",
        act=redis.restarted,
        short=Scale(tasks=200, times=4, down=4, work=(0.1, 0.3), rate=20, bound=300),
        long=Scale(tasks=1200, times=20, down=10, work=(0.1, 0.3), rate=20, bound=600),
        control=Control("no_subscription", sees="publishing"),
    ),
    Case(
        name="redis-pause",
        injection="Redis paused",
        passes="publishing unaffected; a chord's body runs once, or its caller gets an error",
        act=redis.paused,
        short=Scale(tasks=200, times=4, down=4, work=(0.1, 0.3), rate=20, bound=300),
        long=Scale(tasks=1200, times=20, down=30, work=(0.1, 0.3), rate=20, bound=600),
        control=Control("no_subscription", sees="publishing"),
        in_tests=True,
    ),
    Case(
        name="redis-wipe",
        injection="Redis killed, and started without its file",
        passes="publishing unaffected; a chord's body runs once, or its caller gets an error",
        act=redis.killed_without_its_file,
        short=Scale(tasks=200, times=4, down=4, work=(0.1, 0.3), rate=20, bound=300),
        long=Scale(tasks=1200, times=20, down=10, work=(0.1, 0.3), rate=20, bound=600),
        control=Control("no_subscription", sees="publishing"),
    ),
    Case(
        name="poison",
        injection="a task that kills its own process",
        passes="dead letter at the limit, neighbours finish",
        act=poison.kills_itself,
        short=Scale(tasks=20, times=1, work=(0.1, 0.3), bound=300),
        long=Scale(tasks=500, times=20, work=(0.1, 1.0), bound=900),
        control=Control("late_ack", sees="lost"),
        in_tests=True,
        processes=_ITS_WORKER,
    ),
    Case(
        name="hungry",
        injection="a task that eats memory past the limit of its container",
        passes="dead letter at the limit, neighbours finish",
        act=poison.eats_memory,
        short=Scale(tasks=20, times=1, work=(0.1, 0.3), bound=300),
        long=Scale(tasks=500, times=10, work=(0.1, 1.0), bound=900),
        control=Control("late_ack", sees="lost"),
        processes=_ITS_WORKER,
    ),
    Case(
        name="malformed",
        injection="every kind of malformed message, and some from a fuzzer, between good ones",
        passes="worker pid unchanged, 100 % of the bad in the dead-letter queue",
        act=malformed.between_good_ones,
        short=Scale(tasks=50, times=20, bound=300),
        long=Scale(tasks=10_000, times=200, bound=1200),
        control=Control("consumer", sees="worker"),
        in_tests=True,
        lane_in_tests=True,
    ),
    Case(
        name="large-bodies",
        injection="bodies of 1, 15 and 17 MiB",
        passes="17 MiB raises at the caller, naming the limit",
        act=bodies.large,
        short=Scale(tasks=1, bound=300),
        long=Scale(tasks=10, bound=300),
        control=Control("confirms,size", sees="lost"),
        in_tests=True,
    ),
    Case(
        name="memory-alarm",
        injection="memory alarm on the broker",
        passes="consumers drain, publishers time out with a clear error",
        act=broker.memory_alarm,
        short=Scale(tasks=20, down=6, work=(0.1, 0.3), bound=300),
        long=Scale(tasks=500, down=60, work=(0.1, 0.5), bound=600),
        control=Control("confirms", sees="false"),
        in_tests=True,
        control_in_tests=True,
    ),
    Case(
        name="disk-alarm",
        injection="disk alarm on the broker",
        passes="consumers drain, publishers time out with a clear error",
        act=broker.disk_alarm,
        short=Scale(tasks=20, down=6, work=(0.1, 0.3), bound=300),
        long=Scale(tasks=500, down=60, work=(0.1, 0.5), bound=600),
        control=Control("confirms", sees="false"),
    ),
    Case(
        name="rolling-restart",
        injection="SIGTERM to every pool in turn, each started anew",
        passes="as many effects as tasks; redeliveries reported",
        act=pools.rolling_restart,
        short=Scale(tasks=60, work=(0.1, 1.0), bound=300),
        long=Scale(tasks=1000, work=(0.1, 5.0), bound=900),
        control=Control("grace,late_ack", sees="lost"),
        services=pools.EVERY,
        in_tests=True,
    ),
    Case(
        name="two-beats",
        injection="two beats at once; then the clock 10 minutes off in the container of the one that takes over",
        passes="one effect per tick",
        act=schedule.two_beats,
        short=Scale(tasks=1, down=5, bound=300),
        long=Scale(tasks=1, down=60, bound=900),
        control=Control("tick_id", sees="twice", scale=Scale(tasks=1, down=20, bound=300)),
    ),
    Case(
        name="trespass",
        injection="the broker user of each service tries every other's queue, dead letters and tasks, and the control",
        passes="ACCESS_REFUSED each time; own work goes on",
        act=rights.trespass,
        short=Scale(tasks=100, work=(0.1, 0.3), rate=20, bound=300),
        long=Scale(tasks=1000, work=(0.1, 0.5), rate=20, bound=300),
        control=Control("permissions", sees="access"),
        services=pools.EVERY,
        in_tests=True,
    ),
)

#: Those that need a broker of three nodes.
NODES: tuple[Case, ...] = (
    Case(
        name="node-killed",
        injection="one RabbitMQ node of three after another killed, and as long up again, while tasks are published",
        passes="0 lost; stall recorded",
        act=nodes.one_killed,
        short=Scale(tasks=1500, down=4, bound=300),
        long=Scale(tasks=65_536, down=30, bound=3600),
        control=Control("confirms", sees="lost", scale=Scale(tasks=20_000, down=4, bound=300)),
    ),
    Case(
        name="two-nodes-killed",
        injection="two RabbitMQ nodes of three killed",
        passes="publishers fail inside their timeout; none falsely confirmed",
        act=nodes.two_killed,
        short=Scale(tasks=50, down=6, bound=300),
        long=Scale(tasks=1000, down=60, bound=900),
        control=Control("confirms,pause_minority", sees="false"),
    ),
    Case(
        name="leader-isolated",
        injection="the node that leads the queue is cut off from everything",
        passes="consumes again within 2 × heartbeat + 30 s",
        act=nodes.leader_isolated,
        short=Scale(tasks=600, down=15, work=(0.0, 0.05), rate=30, bound=300),
        long=Scale(tasks=6000, down=60, work=(0.0, 0.1), rate=30, bound=900),
        control=Control("confirms", sees="lost"),
    ),
)


def played(cases: tuple[Case, ...], form: str, lane: bool = False) -> list[Case]:
    """Of `cases`, those that a run plays: `make test` leaves out what takes long and resembles another."""
    return [case for case in cases if (form or case.in_tests) and not (lane and case.processes)]


def in_lane(cases: tuple[Case, ...], form: str) -> list[Case]:
    """Of `cases`, those that `make test` plays in the fast lane too; `make chaos LANE=1` plays all there."""
    return [case for case in cases if case.lane_in_tests and not form]


def controls(cases: tuple[Case, ...], form: str, lane: bool = False) -> list[Case]:
    """Likewise, those whose negative control it plays.

    A solo pool acknowledges when its loop turns, after the task, also where it should before: there a case cannot be
    made to fail by that guard.
    """
    chosen = [case for case in cases if (form or case.control_in_tests) and not (lane and case.processes)]
    return [case for case in chosen if not (lane and "late_ack" in case.control.without)]
