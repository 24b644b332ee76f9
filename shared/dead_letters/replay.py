"""Publish a dead letter again, and never twice.

A record in Redis stands for each replay. It is made before the letter is published and completed when the broker has
confirmed; then the letter is removed. Whoever finds a complete record only removes the letter. Whoever finds one that
is not complete cannot know whether the broker had the message when the replay broke off: the letter is in doubt, stays,
and waits for a person's word.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from kombu.exceptions import OperationalError

from shared import keys, messages
from shared.dead_letters.cause import DUE, REPLAYS, Reason
from shared.dead_letters.letter import DeadLetter
from shared.errors import Error
from shared.signatures import declarations
from shared.spec import EVERYONE
from shared.topology import SERVICES, TASKS_EXCHANGE, UNROUTED_QUEUE

#: Seconds that a record is kept, 30 days: so long a replay that broke off can be taken up again.
RECORD_EXPIRES = 30 * 24 * 3600
_PREFIX = f"{keys.DEAD_LETTERS}replay:"
_BEGUN, _PUBLISHED = "begun", "published"

#: A new message's life begins anew.
_SPENT = ("expiration", "user_id", "content_type", "content_encoding")


class Outcome(StrEnum):
    """What became of a letter."""

    REPLAYED = "replayed"
    ALREADY = "already_replayed"
    IN_DOUBT = "in_doubt"
    REFUSED = "refused"


class NotReplayable(Error):
    """The letter cannot be published again as it is. The message says what would help."""


class Unpublished(Error):
    """The broker did not take the message, and said so: the letter is where it was."""


class Records:
    """The records of replays. `client` is a Redis client."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def begin(self, key: str) -> str | None:
        """Make the record of a letter; None where this call made it, else what is there."""
        name = _PREFIX + key
        if self.client.set(name, _BEGUN, nx=True, ex=RECORD_EXPIRES):
            return None
        there = self.client.get(name)
        return there.decode() if isinstance(there, bytes) else there or _BEGUN

    def complete(self, key: str) -> None:
        """The broker has the message."""
        self.client.set(_PREFIX + key, _PUBLISHED, ex=RECORD_EXPIRES)

    def forget(self, key: str) -> None:
        """The broker has it not, for sure."""
        self.client.delete(_PREFIX + key)


class Again(NamedTuple):
    """The message that a letter is to be."""

    routing_key: str
    headers: dict[str, Any]
    body: bytes
    content_type: str | None
    content_encoding: str | None


class Replay:
    """Replays letters, one at a time: a crash leaves one in doubt at most.

    Args:
        app: a publisher's.
        records: see above.
        args, kwargs: what to run the task with instead; None leaves the letter's own.
        in_doubt: what to do with a letter in doubt: `publish` it, `remove` it; None leaves it.
    """

    def __init__(
        self,
        app: Any,
        records: Records,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        in_doubt: str | None = None,
    ) -> None:
        self.app = app
        self.records = records
        self.args = args
        self.kwargs = kwargs
        self.in_doubt = in_doubt

    def __call__(self, letter: DeadLetter) -> Outcome:
        """Publish `letter`; it may be removed after REPLAYED and ALREADY, and after these alone.

        Raises:
            NotReplayable: it was not tried.
            InvalidArguments: the new arguments are not the task's.
            Unpublished: the broker refused it.
            OperationalError, TimeoutError, OSError: the broker did not answer; the letter is in doubt.
            RedisError: the records are away. The letter is in doubt where it was published just before.
        """
        again = self._message(letter)
        there = self.records.begin(letter.key)
        if there == _PUBLISHED or (there == _BEGUN and self.in_doubt == "remove"):
            return Outcome.ALREADY
        if there == _BEGUN and self.in_doubt != "publish":
            return Outcome.IN_DOUBT
        try:
            self._publish(letter, again)
        except self._refusals as error:
            self.records.forget(letter.key)
            raise Unpublished(f"the broker does not take {letter.task}[{letter.id}]: {error}") from None
        self.records.complete(letter.key)
        return Outcome.REPLAYED

    def _publish(self, letter: DeadLetter, again: Again) -> None:
        with self.app.producer_pool.acquire(block=True, timeout=self.app.settings.publish_timeout) as producer:
            try:
                producer.publish(
                    again.body,
                    exchange=TASKS_EXCHANGE,
                    routing_key=again.routing_key,
                    headers=again.headers,
                    content_type=again.content_type,
                    content_encoding=again.content_encoding,
                    # Where the broker has no exchanges of its own.
                    declare=None if self.app.settings.declared_ahead else list(self.app.amqp.queues.values()),
                    mandatory=True,
                    # Not again by itself: what was not confirmed may be there.
                    retry=False,
                    timeout=self.app.settings.publish_timeout,
                    confirm_timeout=self.app.settings.publish_timeout,
                    **{name: value for name, value in letter.properties.items() if name not in _SPENT},
                )
            except BaseException:
                # A channel that was left while it waited would take the next answer for its own.
                producer.connection.collect()
                raise

    @property
    def _refusals(self) -> tuple[type[BaseException], ...]:
        # A nack, a lack of rights, no queue: the broker has answered. A connection that broke says nothing.
        errors: tuple[type[BaseException], ...] = self.app.connection_for_write().channel_errors
        return tuple(kind for kind in errors if not issubclass(kind, OperationalError))

    def _message(self, letter: DeadLetter) -> Again:
        payload, headers = letter.payload, dict(letter.headers)
        fault = messages.fault(headers, payload)
        if fault is not None:
            raise NotReplayable(f"no task can be made of it: {fault}. Drop it, and ask its publisher")
        if letter.queue == UNROUTED_QUEUE and not _has_a_service(letter.routing_key):
            raise NotReplayable(f"no service takes {letter.routing_key!r}: start it first, or drop the letter")
        body = letter.body
        written_in = letter.properties.get("content_type"), letter.properties.get("content_encoding")
        if self.args is not None or self.kwargs is not None:
            args, kwargs = self._arguments(letter, payload)
            body = json.dumps([args, kwargs, payload[2]]).encode()
            # Whatever it was written in: every worker takes JSON.
            written_in = "application/json", "utf-8"
            headers |= {"argsrepr": repr(args), "kwargsrepr": repr(kwargs)}
        # A replay is a new beginning: it has all its attempts, and is not too late again.
        headers |= {REPLAYS: letter.replays + 1, "retries": 0, DUE: datetime.now(UTC).isoformat()}
        if letter.reason == Reason.EXPIRED:
            headers["expires"] = None
        return Again(_routing_key(letter), headers, body, *written_in)

    def _arguments(self, letter: DeadLetter, payload: Any) -> tuple[list[Any], dict[str, Any]]:
        declaration = declarations().get(letter.task)
        if declaration is None:
            raise NotReplayable(f"no signature of {letter.task!r} is known here, so its arguments cannot be checked")
        args = list(payload[0] if self.args is None else self.args)
        kwargs = dict(payload[1] if self.kwargs is None else self.kwargs)
        checked = declaration(*args, **kwargs)
        return list(checked.args), dict(checked.kwargs)


def _has_a_service(routing_key: str) -> bool:
    return routing_key.partition(".")[0] in {spec.name for spec in SERVICES}


def _routing_key(letter: DeadLetter) -> str:
    if letter.routing_key.startswith(f"{EVERYONE}."):
        # One service gave it up; the others have done it.
        return f"{letter.queue.partition('.')[0]}.{letter.routing_key}"
    return letter.routing_key
