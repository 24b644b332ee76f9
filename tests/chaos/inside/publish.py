"""Publishes tasks as a team's own program does, and journals the outcome of each: confirmed, failed or unknown.

The journal is a line of JSON an outcome, appended and synced to disk: before the next publish, or with `sync_every` at
each so many. It is written by this process alone, on the machine's own disk, and needs neither broker nor Redis.

Usage: publish.py '{"journal": "/journal/0.jsonl", "prefix": "p0", "count": 100, "services": ["calculator"], ...}'
"""

import json
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery.backends.redis import RedisBackend as CeleryRedisBackend

from shared.app import app
from shared.publishing import NotSent, Rejected
from shared.results.redis import RedisBackend

#: A process that is told so by this file stops after the publish in hand.
STOP = "stop"
WITHOUT = frozenset(os.environ.get("CHAOS_WITHOUT", "").split(","))


@dataclass(frozen=True)
class Order:
    """What to publish.

    Attributes:
        journal: where the outcomes go.
        prefix: of each task's id, which is the key of its effect.
        count: how many tasks.
        services: whose tasks; chosen by chance.
        task: its name after `<service>.chaos.`.
        rate: tasks a second at most; 0 is as fast as they are confirmed.
        work: the shortest and the longest time that a task takes, in seconds.
        ballast: bytes of an argument that says nothing.
        sync_every: outcomes between two syncs of the journal.
        seed: of chance.
    """

    journal: str
    prefix: str
    count: int
    services: tuple[str, ...] = ("calculator",)
    task: str = "effect"
    rate: float = 0.0
    work: tuple[float, float] | None = (0.0, 0.0)
    ballast: int = 0
    sync_every: int = 1
    seed: int = 0

    def calls(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Name, key and arguments of each task."""
        chance = random.Random(self.seed)
        for number in range(self.count):
            arguments: dict[str, Any] = {}
            if self.work is not None:
                arguments["seconds"] = round(chance.uniform(*self.work), 3)
            if self.ballast:
                arguments["ballast"] = "x" * self.ballast
            yield f"{chance.choice(self.services)}.chaos.{self.task}", f"{self.prefix}-{number}", arguments


def outcome(error: Exception | None) -> str:
    """What the publisher knows now: the broker has it, the broker has it not and will not get it, or neither."""
    if error is None:
        return "confirmed"
    return "failed" if isinstance(error, NotSent | Rejected) else "unknown"


def main(order: Order) -> None:
    """Publish, journal, until all is published or the file `stop` is there."""
    options: dict[str, Any] = {}
    if "confirms" in WITHOUT:
        app.conf.broker_transport_options = {"confirm_publish": False}
    if "no_subscription" in WITHOUT:
        RedisBackend.on_task_call = CeleryRedisBackend.on_task_call  # type: ignore[method-assign]
        options["ignore_result"] = False
    stop = Path(order.journal).with_name(STOP)
    begun = time.monotonic()
    with Path(order.journal).open("a") as journal:
        for number, (name, key, arguments) in enumerate(order.calls()):
            if order.rate:
                time.sleep(max(0.0, begun + number / order.rate - time.monotonic()))
            if stop.exists():
                break
            at, started, error = time.time(), time.monotonic(), None
            try:
                app.send_task(name, kwargs=arguments, task_id=key, **options)
            except Exception as caught:
                error = caught
            took = time.monotonic() - started
            line = {"key": key, "at": at, "took": took, "outcome": outcome(error)}
            if error is not None:
                line |= {"error": type(error).__name__, "says": str(error)[:500]}
            journal.write(json.dumps(line) + "\n")
            if number % order.sync_every == 0:
                _sync(journal)
        _sync(journal)


def _sync(journal: Any) -> None:
    journal.flush()
    os.fsync(journal.fileno())


if __name__ == "__main__":
    main(Order(**json.loads(sys.argv[1])))
