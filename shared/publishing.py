"""Publishing with care: within its time a publisher learns that the broker has the message, has it not, or may have it.

Celery publishes through a kombu producer, and `Line` stands in its place. All tasks of a process come through here:
calls, canvases, retries, callbacks, what a worker publishes for a task. Source: RabbitMQ, "Publisher Confirms", "Memory
and Disk Alarms"; AMQP 0-9-1, class basic.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from amqp import exceptions as amqp
from kombu.compression import compress
from kombu.exceptions import OperationalError
from kombu.serialization import dumps

from shared import names, redis_broker
from shared.errors import Error
from shared.event_channel import event_channel

logger = logging.getLogger(__name__)

#: Seconds that one broker has to answer; Celery's own default.
CONNECT_TIMEOUT = 4.0
#: Seconds that the event of a published task may take: it is for eyes, and its task is on its way.
EVENT_TIMEOUT = 1.0
#: Seconds. Less is not worth another attempt.
LEAST = 0.05
#: Bytes. A larger body leaves in many frames, and each of them may take as long as all are allowed.
_ONE_FRAME = 100 * 2**10


class PublishError(Error, OperationalError):
    """The broker did not confirm a task. What is known of it, the subclasses say.

    Whoever catches kombu's `OperationalError`, as with any Celery, catches these too.

    Attributes:
        passing: whether the same message may be taken later.
        outcome: what metrics call it.
        told: what the report of a batch calls it.
    """

    advice = ""
    outcome = "not_sent"

    @property
    def told(self) -> str:
        return self.outcome

    def __init__(self, message: str, passing: bool = False) -> None:
        super().__init__(message, passing)
        self.passing = passing

    def __str__(self) -> str:
        return str(self.args[0])


class NotSent(PublishError):
    """The broker does not have the message, and will not get it."""

    advice = "it will not run: publish it again"


class TooLarge(NotSent, ValueError):
    """The message is larger than the broker takes; nothing was sent."""

    advice = "store the content, and pass a reference to it"
    outcome = "too_large"


class Rejected(PublishError):
    """The broker read the message and refused it: a full queue, a missing right, no queue that would take it.

    A message for several queues, such as a task for every service, may be in some of them.
    """

    advice = "it will not run; what the broker said is the reason"
    outcome = "rejected"


class Unroutable(Rejected):
    """No queue takes the message's routing key, and the alternate exchange has none either."""

    @property
    def told(self) -> str:
        return "returned"


class Unknown(PublishError):
    """The message was sent, and nobody said what became of it. It may be published again, under the same id."""

    advice = "it may run: publish it again under the same id, or not at all"
    outcome = "unknown"


#: What the library's error says of a message that is on its way: what to raise, and whether it may pass.
_VERDICTS: tuple[tuple[type[BaseException], type[PublishError], bool], ...] = (
    # The queue is full, or between two leaders.
    (amqp.MessageNacked, Rejected, True),
    # The broker closed the channel over this message, or gave it back.
    (amqp.ChannelError, Rejected, False),
    (amqp.InternalError, Unknown, True),
    # It closed the connection over this message.
    (amqp.IrrecoverableConnectionError, Rejected, False),
    (amqp.ConnectionError, Unknown, True),
    (OSError, Unknown, True),
)


#: Errors that say something of a message that is on its way.
TELLING = tuple(one[0] for one in _VERDICTS)


def verdict(error: BaseException) -> tuple[type[PublishError], bool]:
    """What one of `TELLING` says of a message that is on its way: what to raise, and whether it may pass."""
    return next(one[1:] for one in _VERDICTS if isinstance(error, one[0]))


@dataclass(frozen=True)
class Care:
    """What may be spent on one message.

    Attributes:
        timeout: seconds for everything: to connect, each attempt, the pauses between them.
        connect_timeout: seconds that one broker has to answer.
        retries: rounds over the brokers of BROKER_URL after the first; None for as many as the time allows.
        pauses: seconds before the second round, how many more before each further one, and the most.
        largest: bytes of a body that the broker takes; None where it takes any.
    """

    timeout: float
    connect_timeout: float = CONNECT_TIMEOUT
    retries: int | None = 3
    pauses: tuple[float, float, float] = (0.0, 0.2, 1.0)
    largest: int | None = None

    def pause(self, rounds: int) -> float:
        """Seconds to wait after so many rounds."""
        first, step, most = self.pauses
        return min(first + step * (rounds - 1), most)

    def of(self, retry: bool | None, policy: Mapping[str, Any] | None) -> "Care":
        """The same, as Celery's `retry` and `retry_policy` of one call, or of a configuration, say."""
        if retry is not False and not policy:
            return self
        retries, (first, step, most) = self.retries, self.pauses
        policy = policy or {}
        return replace(
            self,
            retries=0 if retry is False else policy.get("max_retries", retries),
            pauses=(
                policy.get("interval_start", first),
                policy.get("interval_step", step),
                policy.get("interval_max", most),
            ),
        )


class Line:
    """A kombu producer for one task.

    Each attempt goes to the next broker of the list, over a new connection: one that was given up while it waited
    would give a late confirmation to the message after it. An attempt may take half of the time that is left, so that
    there is time for others. When the broker says that it has an alarm there are no others: an alarm holds for the
    whole cluster, and each copy that was sent is taken when it is over.

    Args:
        on_repeat: called before what may have arrived is sent again.
    """

    def __init__(self, producer: Any, care: Care, on_repeat: Callable[[], object] | None = None) -> None:
        self._producer = producer
        self.connection = producer.connection
        self._care, self._on_repeat = care, on_repeat
        self._published = False
        self._blocked = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def publish(self, body: Any, **options: Any) -> None:
        """As kombu's. What comes after the task's own message is Celery's event of it, and may be lost.

        Raises:
            NotSent, TooLarge, Rejected, Unknown: see there.
        """
        if self._published:
            self._tell(body, options)
            return
        body, size = serialized(body, options)
        headers = options.get("headers") or {}
        name = f"{headers.get('task')}[{headers.get('id')}]"
        check_size(headers.get("task"), headers.get("id"), size, self._care.largest)
        self._insist(name, body, size, options)
        self._published = True

    def _insist(self, name: str, body: Any, size: int, options: dict[str, Any]) -> None:
        end = time.monotonic() + self._care.timeout
        hosts = len(self.connection.alt or ()) or 1
        last = None if self._care.retries is None else (self._care.retries + 1) * hosts
        told: PublishError | None = None
        for attempt in count(1):
            left = end - time.monotonic()
            if isinstance(told, Unknown) and self._on_repeat is not None:
                self._on_repeat()
            try:
                self._attempt(body, size, left if attempt == last else left / 2, options)
                return
            except PublishError as error:
                if not isinstance(error.__cause__, amqp.MessageNacked):  # which is an answer
                    self._leave()
                # Where one attempt may have arrived, what became of the others does not matter.
                told = error if isinstance(error, Unknown) or not isinstance(told, Unknown) else told
                pause = self._care.pause(attempt // hosts) if attempt % hosts == 0 else 0.0
                over = attempt == last or self._blocked or end - time.monotonic() - pause < LEAST
                if over or not error.passing:
                    kind = type(told)
                    text = f"{name}: {told}, after {attempt} of {last or 'many'} attempts: {kind.advice}"
                    raise kind(text, told.passing) from error.__cause__
                logger.info("%s: attempt %d: %s", name, attempt, error)
                time.sleep(pause)
            except BaseException:
                # A time limit, Ctrl-C: a confirmation may still be on its way.
                self._leave()
                raise

    def _attempt(self, body: Any, size: int, seconds: float, options: dict[str, Any]) -> None:
        end = time.monotonic() + seconds
        protocol = connected(self.connection, self._care, end)
        confirms = getattr(protocol, "confirm_publish", None)
        try:
            left = max(LEAST, end - time.monotonic())
            with bounded(protocol, left):
                self._get_ready(protocol)
        except (amqp.AMQPError, OSError) as error:
            raise unreachable(self.connection, error) from error
        try:
            left = max(LEAST, end - time.monotonic())
            with bounded(protocol, left), cut_off(protocol, left) if size > _ONE_FRAME else nullcontext():
                self._hand_over(body, options, left)
        except TELLING as error:
            kind, passing = verdict(error)
            if kind is Unknown and confirms is None and self.connection.transport.driver_type != "redis":
                # A transport whose messages are there at once, or not at all.
                raise NotSent(f"the message cannot be left: {words(error)}", passing) from error
            told = f"{self.connection.host} has an alarm, and takes nothing" if self._blocked else words(error)
            raise kind(f"the broker did not confirm: {told}", passing) from error

    def _hand_over(self, body: Any, options: dict[str, Any], seconds: float) -> None:
        """Send the message, and wait for the broker's word."""
        options = {**options, "retry": False, "timeout": seconds, "confirm_timeout": seconds}
        with redis_broker.in_common_words(self.connection):
            self._producer.publish(body, **options)

    def _get_ready(self, protocol: Any) -> None:
        """Do all that comes before a message is sent."""
        if hasattr(protocol, "on_blocked"):
            protocol.on_blocked = self._on_blocked
        channel = self._producer.channel
        if getattr(protocol, "confirm_publish", False) and not channel._confirm_selected:
            # py-amqp does it with the first message: here nothing of that is sent yet.
            channel.confirm_select()
            channel._confirm_selected = True

    def _on_blocked(self, reason: str) -> None:
        self._blocked = True

    def _leave(self) -> None:
        leave(self.connection)
        self._producer.revive(self.connection)

    def _tell(self, body: Any, options: dict[str, Any]) -> None:
        with self._for_eyes() as protocol:
            events = event_channel(protocol)
            if events is None:
                self._producer.publish(body, **{**options, "retry": False, "timeout": EVENT_TIMEOUT})
                return
            # To wait for the broker's word, as for a task's, would double the ways there and back.
            body, _ = serialized(body, options)
            said = {name: options.get(name) for name in ("content_type", "content_encoding", "delivery_mode")}
            said["application_headers"] = options.get("headers")
            events.tell(body, options["exchange"], options["routing_key"], **said)

    @contextmanager
    def _for_eyes(self) -> Iterator[Any]:
        """What the block sends over this connection may be lost."""
        try:
            protocol = self.connection.connection
            with bounded(protocol, EVENT_TIMEOUT):
                yield protocol
        except Exception as error:
            logger.info("The event of a published task is lost: %s", words(error))
            self._leave()
        except BaseException:
            self._leave()
            raise


def connected(connection: Any, care: Care, end: float) -> Any:
    """The protocol's own connection, made unless it is there, to the broker whose turn it is.

    Args:
        end: by the monotonic clock.

    Raises:
        NotSent: the broker cannot be reached.
    """
    if connection.connected:
        return connection.connection
    usual = connection.connect_timeout
    connection.connect_timeout = max(LEAST, min(care.connect_timeout, end - time.monotonic()))
    try:
        if connection.transport.driver_type == "amqp":
            names.resolve(connection.hostname, connection.port, connection.connect_timeout)
        with redis_broker.in_common_words(connection):
            connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
    except (amqp.AMQPError, OSError) as error:
        raise unreachable(connection, error) from error
    finally:
        connection.connect_timeout = usual
    return connection.connection


def unreachable(connection: Any, error: BaseException) -> NotSent:
    """What to raise where a connection is not made."""
    # A broker that lets nobody in under this name and password does not do so later either.
    passing = isinstance(error, OSError | amqp.RecoverableConnectionError)
    return NotSent(f"{connection.host} cannot be reached: {words(error)}", passing)


def leave(connection: Any) -> None:
    """Give a connection up, without a word to a broker that may not answer, and turn to the next broker."""
    connection.collect()
    connection.maybe_switch_next()


def check_size(task: Any, task_id: Any, size: int, largest: int | None) -> None:
    """Raise TooLarge where a body of `size` bytes is larger than the broker takes."""
    if largest is not None and size > largest:
        said = f"its body has {size:,} bytes, and the broker takes {largest:,} (MAX_MESSAGE_SIZE)"
        raise TooLarge(f"{task}[{task_id}]: {said}: {TooLarge.advice}")


def serialized(body: Any, options: dict[str, Any]) -> tuple[Any, int]:
    """The bytes to send, and how many; `options` then say what they are. Made once, however often they are sent."""
    if not options.get("content_type"):
        serializer = options.pop("serializer", None)
        options["content_type"], options["content_encoding"], body = dumps(body, serializer=serializer)
    if isinstance(body, str):
        body = body.encode(options.get("content_encoding") or "utf-8")
    if compression := options.pop("compression", None):
        body, options["headers"]["compression"] = compress(body, compression)
    return body, len(body)


def words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return str(error) or type(error).__name__


@contextmanager
def bounded(protocol: Any, seconds: float) -> Iterator[None]:
    """So long each read and write may take. py-amqp opens channels, and asks for confirms, without any bound."""
    transport = getattr(protocol, "transport", None)
    if transport is None or not hasattr(transport, "having_timeout"):
        yield
        return
    with transport.having_timeout(seconds):
        yield


@contextmanager
def cut_off(protocol: Any, seconds: float) -> Iterator[None]:
    """Shut the connection after so long, whatever is being written to it."""
    sock = getattr(protocol, "sock", None)
    if sock is None:
        yield
        return

    def shut() -> None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
