"""Many tasks published at once, each with the care of one: `publish_many`, and `publish` for a single one.

    report = publish_many([calculator.add(1, n) for n in range(10_000)])
    report.confirmed, report.failed        # which the broker has; of which others what is known
    publish_many(report.again())           # once more, under the same ids

Signatures are checked before the first one is sent. Messages are written many at a time, and up to `window` of them
wait for their confirmations together. Each is what `apply_async` would have sent; see docs/guarantees.md.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from celery import Signature, current_app
from celery.utils import uuid

from shared.errors import InvalidArguments
from shared.publish_batch import Batch
from shared.publishing import PublishError
from shared.signatures import declarations

#: Messages that wait for their confirmations together. A broker on the same machine confirms some hundred at a time.
WINDOW = 1000


class Duplicate(InvalidArguments):
    """Two signatures of a batch have one id. The message names both."""


@dataclass(frozen=True)
class Failed:
    """A task that the broker did not confirm.

    Attributes:
        index: its place in the batch, from 0.
        id: of the task.
        error: what is known of it: `Unroutable`, another `Rejected`, `TooLarge`, another `NotSent`, `Unknown`.
    """

    index: int
    id: str
    error: PublishError

    @property
    def outcome(self) -> str:
        """One word: `returned`, `rejected`, `too_large`, `not_sent` or `unknown`."""
        return self.error.told


@dataclass(frozen=True)
class Report:
    """What became of each task of a batch.

    Attributes:
        ids: of all tasks, in the order of the batch.
        failed: those that were not confirmed, in the same order. All others the broker has.
        repeated: tasks that were sent more than once, because a connection was lost: a queue may have them twice, under
            one id.
        signatures: of the batch.
    """

    ids: tuple[str, ...]
    failed: tuple[Failed, ...]
    repeated: tuple[str, ...]
    signatures: tuple[Signature, ...]

    @property
    def confirmed(self) -> tuple[str, ...]:
        """Ids of the tasks that the broker has."""
        others = {one.index for one in self.failed}
        return tuple(one for index, one in enumerate(self.ids) if index not in others)

    def of(self, outcome: str) -> tuple[Failed, ...]:
        """Those of one outcome; see `Failed.outcome`."""
        return tuple(one for one in self.failed if one.outcome == outcome)

    @property
    def counts(self) -> dict[str, int]:
        """How many of each outcome, and how many were `confirmed`."""
        told = Counter(one.outcome for one in self.failed)
        return {"confirmed": len(self.ids) - len(self.failed), **dict(sorted(told.items()))}

    def again(self) -> list[Signature]:
        """The signatures that were not confirmed, each with the id that it had.

        To publish them again is safe as far as an effect is guarded by its task's id: of an `unknown` one the queue may
        have two messages then, with one id.
        """
        return [with_id(self.signatures[one.index], one.id) for one in self.failed]

    def raise_first(self) -> None:
        """Raise what is known of the first task that was not confirmed; nothing where there is none."""
        if self.failed:
            raise self.failed[0].error


def with_id(signature: Signature, task_id: str) -> Signature:
    """A copy of `signature` whose task has this id."""
    made = signature.clone()
    made.options["task_id"] = task_id
    return made


def publish_many(
    signatures: Iterable[Signature],
    *,
    app: Any = None,
    window: int = WINDOW,
    timeout: float | None = None,
    retry: bool | None = None,
    retry_policy: dict[str, Any] | None = None,
    progress: bool | Callable[[int, int], None] = False,
) -> Report:
    """Publish `signatures`, and say what became of each.

    What lies on the way when a connection is lost is sent again under the same id, as with `apply_async`.

    Args:
        signatures: of declared tasks, of others, or canvases. A canvas goes `apply_async`'s own way.
        app: the app to publish with; the current one unless given.
        window: how many may wait for their confirmations together, from 1.
        timeout: seconds in which each has its confirmation, from when it is written, and in which there must be a
            connection; `publish_timeout` unless given.
        retry, retry_policy: as `apply_async`'s; False sends nothing twice.
        progress: True shows a bar on stderr; a function is told how many are done, of how many.

    Raises:
        InvalidArguments: a signature is refused by its declaration, or two have one id. Nothing was sent.
    """
    batch = prepare(
        signatures, app=app, window=window, timeout=timeout, retry=retry, retry_policy=retry_policy, progress=None
    )
    with bar() if progress is True else nullcontext(progress or None) as told:
        batch.progress = told
        batch.run()
    return report(batch)


def publish(signature: Signature, *, app: Any = None, **options: Any) -> Any:
    """Publish one task; gives Celery's `AsyncResult`.

    As `apply_async` does it: a channel of its own, as `publish_many` has it, is not worth while for one message.

    Args:
        options: as `apply_async`'s.

    Raises:
        InvalidArguments: the signature is refused by its declaration. Nothing was sent.
        PublishError: its subclasses say whether the broker has the message.
    """
    app = app or current_app._get_current_object()
    declared = declarations().get(signature["task"])
    if declared is not None:
        try:
            declared.check(signature["args"], signature["kwargs"])
        except InvalidArguments as error:
            raise InvalidArguments(f"{error}; nothing was sent") from None
    signature = signature.clone()
    signature._app = app
    return signature.apply_async(**options)


def prepare(signatures: Iterable[Signature], *, app: Any = None, **how: Any) -> Batch:
    """A batch that was checked, and that nothing was sent of; `publish_many` says what else is given, and raised."""
    known = declarations()
    listed = tuple(signatures)
    ids: list[str] = []
    places: dict[str, int] = {}
    for index, one in enumerate(listed):
        declared = known.get(one["task"])
        if declared is not None:
            try:
                declared.check(one["args"], one["kwargs"])
            except InvalidArguments as error:
                raise InvalidArguments(f"signature {index}: {error}; nothing was sent") from None
        task_id = one["options"].get("task_id") or uuid()
        if places.setdefault(task_id, index) != index:
            raise Duplicate(f"signatures {places[task_id]} and {index} have one id, {task_id}; nothing was sent")
        ids.append(task_id)
    return Batch(app or current_app._get_current_object(), listed, ids, places, **how)


def report(batch: Batch) -> Report:
    """What became of each task so far, also where the batch was broken off."""
    failed = tuple(Failed(index, batch.ids[index], error) for index, error in batch.failures())
    repeated = tuple(batch.ids[index] for index in sorted(batch.repeated))
    return Report(tuple(batch.ids), failed, repeated, batch.signatures)


class bar:
    """A progress bar on stderr, with rich where that is installed; gives a function that moves it."""

    def __enter__(self) -> Callable[[int, int], None]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("published"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Progress(*columns, console=Console(stderr=True))
        self._bars.start()
        one = self._bars.add_task("published", total=None)
        return lambda done, of: self._bars.update(one, completed=done, total=of)

    def __exit__(self, *_: Any) -> None:
        self._bars.stop()


def outcomes(report: Report) -> Iterator[tuple[str, str]]:
    """Each task's id, and one word for what became of it, in the order of the batch."""
    others = {one.index: one.outcome for one in report.failed}
    for index, task_id in enumerate(report.ids):
        yield task_id, others.get(index, "confirmed")
