"""A batch of tasks on its way to the broker: what is sent next, what waits, and what is known of each.

A message is confirmed, or failed with what is known of it. What was on its way when a connection is lost goes again
over the next one, under the same id, as often and as long as one ordinary publish would. Where the broker closes the
channel it does not say over which message: those that were on their way then go one by one.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from amqp import exceptions as amqp
from celery import Signature
from kombu.exceptions import EncodeError

from shared import redis_broker
from shared.app import service_of
from shared.confirms import Confirms
from shared.errors import Error
from shared.metrics.declared import PUBLISHES
from shared.publish_messages import Alone, Letter, Writer, tell
from shared.publishing import (
    LEAST,
    TELLING,
    NotSent,
    PublishError,
    Rejected,
    Unknown,
    Unroutable,
    bounded,
    connected,
    leave,
    unreachable,
    verdict,
    words,
)

#: Bytes that are written at once.
CHUNK = 64 * 2**10
#: Events of tasks that were sent, in one message.
EVENTS = 200


class Batch:
    """Tasks that are published together; see `shared.publish.publish_many`.

    Attributes:
        signatures, ids: of the tasks.
        progress: told how many are done, of how many.
        repeated: places of tasks that were sent more than once.
    """

    def __init__(
        self,
        app: Any,
        signatures: Sequence[Signature],
        ids: list[str],
        places: dict[str, int],
        window: int,
        timeout: float | None = None,
        retry: bool | None = None,
        retry_policy: dict[str, Any] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if window < 1:
            raise ValueError(f"window must be 1 or more, but is {window}")
        self._app, self.signatures, self.ids = app, tuple(signatures), ids
        self.progress, self.repeated = progress, set[int]()
        self._places, self._window = places, window
        self._care = app.care(timeout).of(retry, retry_policy)
        self._again = retry is not False
        self._done = 0
        self._confirmed = bytearray(len(ids))
        self._failed: dict[int, PublishError] = {}
        #: What is not sent yet, and what goes by itself.
        self._todo = deque(range(len(ids)))
        self._alone: deque[int] = deque()
        #: When each that is not confirmed was written first, how often it failed, and what it failed of last.
        self._first: dict[int, float] = {}
        self._tries: Counter[int] = Counter()
        self._doubts: dict[int, PublishError] = {}
        #: Why some exchange and routing key take nothing from this publisher.
        self._closed: dict[tuple[str, str], PublishError] = {}
        self._sent_back: dict[int, str] = {}
        self._nacked: list[int] = []
        self._letters: dict[int, Letter] = {}
        self._counted: Counter[tuple[str, str]] = Counter()
        self._events: list[str] = []

    def failures(self) -> Iterator[tuple[int, PublishError]]:
        """Places of tasks that were not confirmed, so far, each with what is known of it."""
        for index, done in enumerate(self._confirmed):
            if not done:
                yield index, self._failed.get(index) or self._open(index, "the batch was broken off")

    def run(self) -> None:
        """Publish all. Whatever is raised, `failures` then says what is known.

        Raises:
            KeyboardInterrupt, and whatever else comes from outside, such as a time limit.
        """
        try:
            if self._app.settings.declared_ahead:
                with self._app.producer_or_acquire() as producer:
                    if producer.connection.transport.driver_name == "py-amqp":
                        self._go(producer.connection)
            # With another client or broker all is left one by one.
            self._alone.extend(self._todo)
            self._todo.clear()
            self._one_by_one()
        except NotSent as error:
            # All connections of this process are in use.
            self._give_up(error)
        finally:
            self._count()

    def _count(self) -> None:
        for (task, outcome), number in self._counted.items():
            PUBLISHES.inc(service_of(task), outcome, by=number)
        self._counted.clear()

    # --- Many at once -------------------------------------------------------------------------------------------------

    def _go(self, connection: Any) -> None:
        """Over one connection after the other."""
        hosts = len(connection.alt or ()) or 1
        last = None if self._care.retries is None else (self._care.retries + 1) * hosts
        away, silent_since, rounds = 0, time.monotonic(), 0
        while self._todo:
            done = self._done
            try:
                with self._wire(connection, silent_since + self._care.timeout) as wire:
                    self._fly(wire, last)
                away = 0
            except NotSent as error:
                leave(connection)
                away += 1
                rounds = away
                over = not error.passing or away == last or self._left(silent_since) < LEAST
                if over:
                    self._give_up(error)
                    return
            except TELLING as error:
                leave(connection)
                if not self._lost(wire, error, last):
                    return
                rounds = 1
            except BaseException:
                # Ctrl-C, a time limit: confirmations may still be on their way.
                leave(connection)
                raise
            if self._done > done:
                silent_since = time.monotonic()
            self._todo.extendleft(reversed(self._nacked))
            rounds = max(rounds, 1 if self._nacked else 0)
            self._nacked = []
            if self._todo and rounds and rounds % hosts == 0:
                time.sleep(min(self._care.pause(rounds // hosts) or LEAST, self._left(silent_since)))

    def _left(self, since: float) -> float:
        return max(0.0, since + self._care.timeout - time.monotonic())

    @contextmanager
    def _wire(self, connection: Any, end: float) -> Iterator[Confirms]:
        protocol = connected(connection, self._care, min(end, time.monotonic() + self._care.timeout / 2))
        try:
            with bounded(protocol, max(LEAST, end - time.monotonic())):
                wire = Confirms(protocol, self._on_confirmed, self._on_refused, self._on_returned)
        except (amqp.AMQPError, OSError) as error:
            raise unreachable(connection, error) from error
        yield wire
        with suppress(amqp.AMQPError, OSError):
            wire.close()

    def _fly(self, wire: Confirms, last: int | None) -> None:
        """Until all is told that goes over this connection.

        Raises:
            amqp.AMQPError, OSError: it is lost, or nobody answers.
        """
        writer = Writer(self._app, wire.channel.channel_id, wire.protocol.frame_max)
        while self._todo or wire.unconfirmed:
            room = self._window - len(wire.unconfirmed)
            if self._todo and room > 0 and wire.blocked is None:
                self._write(wire, writer, room)
                room = self._window - len(wire.unconfirmed)
            if not self._todo and not wire.unconfirmed:
                break  # the last ones were refused here: nobody has anything to say
            more = bool(self._todo) and room > 0 and wire.blocked is None
            wire.read(0 if more else self._patience(wire, last))
            self._tell(wire)
            if self.progress is not None:
                self.progress(self._done, len(self.ids))
        self._tell(wire, least=1)

    def _tell(self, wire: Confirms, least: int = EVENTS) -> None:
        """Tell Flower of what was confirmed, many at once."""
        while len(self._events) >= least:
            told, self._events = self._events[:EVENTS], self._events[EVENTS:]
            wire.tell(f"[{','.join(told)}]", self._app.amqp._event_dispatcher.exchange.name, "task.multi")

    def _write(self, wire: Confirms, writer: Writer, room: int) -> None:
        frames: list[bytes] = []
        numbers: list[int] = []
        size, now = 0, time.monotonic()
        writer.refresh(now)
        while self._todo and len(numbers) < room and size < CHUNK:
            index = self._todo.popleft()
            try:
                content, letter = writer.letter(self.signatures[index], self.ids[index], self._care.largest)
            except Alone:
                self._alone.append(index)
                continue
            except PublishError as error:
                self._fail(index, error)
                continue
            if self._closed and (reason := self._closed.get(letter.way)):
                self._fail(index, reason)
                continue
            self._letters[index] = letter
            self._first.setdefault(index, now)
            frames.append(content)
            numbers.append(index)
            size += len(content)
        if frames:
            wire.write(frames, numbers, self._care.timeout)

    def _patience(self, wire: Confirms, last: int | None) -> float:
        """Seconds for which to wait for the next confirmation.

        Raises:
            TimeoutError: there is none left.
        """
        now = time.monotonic()
        if not wire.unconfirmed:
            left = (wire.blocked or now) + self._care.timeout - now
        else:
            index, written = next(iter(wire.unconfirmed.values()))
            left = self._first[index] + self._care.timeout - now
            others = self._again and wire.blocked is None and (last is None or self._tries[index] + 1 < last)
            if others:
                # So that there is time for another broker.
                left = min(left, written + (self._first[index] + self._care.timeout - written) / 2 - now)
        if left <= 0:
            raise TimeoutError
        return left

    def _lost(self, wire: Confirms, error: BaseException, last: int | None) -> bool:
        """Sort what was on its way; gives whether to go on over another connection."""
        kind, _ = verdict(error)
        host = wire.protocol.host
        alarm = wire.blocked is not None
        said = f"{host} has an alarm, and takes nothing" if alarm else words(error)
        flying = [index for index, _ in wire.unconfirmed.values()]
        wire.unconfirmed.clear()
        answered = kind is Rejected
        if answered and isinstance(error, amqp.AccessRefused | amqp.NotFound):
            self._close(flying, error)
        for index in flying:
            self._tries[index] += 1
            doubt = Unknown(f"{self._name(index)}: the broker did not confirm: {said}: {Unknown.advice}", True)
            self._doubts[index] = doubt
            letter = self._letters.pop(index, None)
            reason = self._closed.get(letter.way) if letter is not None else None
            over = alarm or not self._again or self._tries[index] == last or self._left(self._first[index]) < LEAST
            if index in self._sent_back:
                self._fail(index, self._unroutable(index))
            elif reason is not None and len(flying) == 1:
                self._fail(index, reason)
            elif over:
                self._fail(index, doubt)
            else:
                self.repeated.add(index)
                (self._alone if answered else self._todo).append(index)
        if alarm:
            self._give_up(NotSent(said, passing=True))
            return False
        return True

    def _close(self, flying: list[int], error: BaseException) -> None:
        """Have no more sent where nothing is taken: what the broker refused is among `flying`."""
        ways = {self._letters[index].way for index in flying if index in self._letters}
        if len(ways) == 1:
            reason = Rejected(f"the broker did not confirm: {words(error)}: {Rejected.advice}")
            self._closed[ways.pop()] = reason

    # --- One by one ---------------------------------------------------------------------------------------------------

    def _one_by_one(self) -> None:
        """As `apply_async` does it: canvases, other transports, and what the broker closed a channel over."""
        silent_since = time.monotonic()
        while self._alone:
            index = self._alone.popleft()
            try:
                self._send(index)
            except PublishError as error:
                doubt = self._doubts.get(index)
                self._fail(index, error if doubt is None or isinstance(error, Rejected) else doubt, counted=True)
                if isinstance(error, Rejected):
                    silent_since = time.monotonic()
                elif error.passing and (isinstance(error, NotSent) or self._left(silent_since) < LEAST):
                    # It had all its attempts. Each of the others would wait as long for nothing.
                    self._give_up(NotSent(f"nobody answers: {words(error.__cause__ or error)}", passing=True))
            except redis_broker.Unroutable as error:
                self._fail(index, Unroutable(f"{self._name(index)}: {error}: {Rejected.advice}"))
            except (Error, EncodeError, TypeError, ValueError) as error:
                # Of a canvas some may be on their way.
                kind = Unknown if self.signatures[index].get("subtask_type") else NotSent
                self._fail(index, kind(f"{self._name(index)}: its message cannot be written: {error}: {kind.advice}"))
            else:
                self._confirm(index)
                silent_since = time.monotonic()
            if self.progress is not None:
                self.progress(self._done, len(self.ids))

    def _send(self, index: int) -> None:
        signature = self.signatures[index].clone()
        signature._app = self._app
        options: dict[str, Any] = {"confirm_timeout": self._care.timeout, "retry": self._again}
        if not signature.get("subtask_type"):
            options["retry_policy"] = {"max_retries": self._care.retries}
            options["on_repeat"] = lambda: self.repeated.add(index)
        signature.apply_async(task_id=self.ids[index], **options)

    # --- What becomes of each -----------------------------------------------------------------------------------------

    def _on_confirmed(self, numbers: list[int]) -> None:
        for index in numbers:
            if index in self._sent_back:
                self._fail(index, self._unroutable(index))
            else:
                self._confirm(index)
                letter = self._letters.pop(index)
                self._counted[self.signatures[index]["task"], "confirmed"] += 1
                if letter.event is not None:
                    self._events.append(letter.event)
                if letter.heard is not None:
                    tell(letter)

    def _on_refused(self, numbers: list[int]) -> None:
        last = None if self._care.retries is None else self._care.retries + 1
        for index in numbers:
            self._tries[index] += 1
            if self._again and self._tries[index] != last and self._left(self._first[index]) > LEAST:
                self._nacked.append(index)
                continue
            reason = f"{self._name(index)}: the broker did not confirm: it refused the message: {Rejected.advice}"
            self._fail(index, Rejected(reason, True))

    def _on_returned(self, task_id: str, reason: str) -> None:
        if (index := self._places.get(task_id)) is not None:
            self._sent_back[index] = reason

    def _unroutable(self, index: int) -> PublishError:
        return Unroutable(f"{self._name(index)}: {self._sent_back[index]}: {Rejected.advice}")

    def _confirm(self, index: int) -> None:
        self._confirmed[index] = 1
        self._done += 1
        self._first.pop(index, None)
        self._doubts.pop(index, None)

    def _fail(self, index: int, error: PublishError, counted: bool = False) -> None:
        self._failed[index] = error
        self._done += 1
        self._letters.pop(index, None)
        if not counted:
            self._counted[self.signatures[index]["task"], error.outcome] += 1

    def _give_up(self, error: PublishError) -> None:
        """Nothing more is sent."""
        for index in (*self._todo, *self._nacked, *self._alone):
            self._fail(index, self._doubts.get(index) or self._named(index, error))
        self._todo.clear()
        self._alone.clear()
        self._nacked = []

    def _open(self, index: int, why: str) -> PublishError:
        kind = Unknown if index in self._first else NotSent
        return kind(f"{self._name(index)}: {why}: {kind.advice}", True)

    def _named(self, index: int, error: PublishError) -> PublishError:
        kind = type(error)
        return kind(f"{self._name(index)}: {error}: {kind.advice}", error.passing)

    def _name(self, index: int) -> str:
        return f"{self.signatures[index]['task']}[{self.ids[index]}]"
