"""Publishing in bounded time: done whole, or not at all.

With publisher confirms alone, a publisher that gives up after a while has still sent its message: a broker that was
paused, or that had a memory alarm, takes it later, and the task runs although its caller was told that it would not.
So over RabbitMQ a message is published in an AMQP transaction, and committed only when the broker has shown that it
reads.
Source: AMQP 0-9-1, class tx; RabbitMQ, "Broker Semantics" and "Memory and Disk Alarms".
"""

import asyncio
import contextvars
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

from amqp import spec
from amqp.exceptions import AMQPError, ChannelError
from celery import Signature
from kombu import Connection, Producer
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from shared.app import App
from shared.errors import Error
from shared.publishing import PublishError

#: Seconds for the way to one broker: TCP, TLS and each answer of the handshake.
CONNECT_TIMEOUT = 0.7
#: Seconds, from the begin of an attempt, in which it may still commit.
COMMIT_BEFORE = 0.8
#: Seconds that a commit may take: the queue's members write the message to their disks.
COMMIT_TIMEOUT = 0.4
#: Messages at once. Each thread keeps a connection of its own.
THREADS = 4


class BrokerAway(Error):
    """The broker did not take the message, and will not take it later."""


class Uncertain(Error):
    """The broker was told to keep the message, and did not say whether it has."""


class Attempt:
    """One try to publish: it may commit until its time is over, or until its caller turned to something else."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + COMMIT_BEFORE
        self._lock = threading.Lock()
        self._abandoned = False
        self._committing = False

    def remaining(self) -> float:
        """Seconds until it must have begun to commit. Raises BrokerAway where there are none."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise BrokerAway(f"the broker did not answer within {COMMIT_BEFORE:g} s")
        return left

    def begin_commit(self) -> None:
        """From here on it cannot be taken back. Raises BrokerAway where it is too late."""
        with self._lock:
            self.remaining()
            if self._abandoned:
                raise BrokerAway("the caller did not wait any longer")
            self._committing = True

    def abandon(self) -> bool:
        """Take it back; False where it is too late for that."""
        with self._lock:
            self._abandoned = True
            return not self._committing


class Publisher:
    """Publishes for many requests at once, each in a thread, because kombu's calls block."""

    def __init__(self, app: App) -> None:
        self._line: _Line = _line(app)
        self._threads = ThreadPoolExecutor(THREADS, "publish")

    async def publish(self, signature: Signature, task_id: str) -> None:
        """Hand the task to the broker.

        Raises:
            BrokerAway: it was not taken.
            Uncertain: it may have been taken.
        """
        attempt = Attempt()
        await self._bounded(attempt, self._line.publish, signature, task_id, attempt)

    async def check(self) -> None:
        """Ask the broker for a sign. Raises BrokerAway."""
        attempt = Attempt()
        await self._bounded(attempt, self._line.check, attempt)

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _bounded(self, attempt: Attempt, work: Any, *arguments: Any) -> None:
        # Every step below has its own bound but one: a look-up of the broker's name.
        # Its span, and its scope, go with it into the thread.
        within = contextvars.copy_context().run
        done = asyncio.get_running_loop().run_in_executor(self._threads, within, work, *arguments)
        try:
            await asyncio.wait_for(done, COMMIT_BEFORE + COMMIT_TIMEOUT)
        except TimeoutError as error:
            if attempt.abandon():
                raise BrokerAway("the broker cannot be reached in time") from error
            raise Uncertain("the broker did not confirm in time") from error
        except asyncio.CancelledError:
            attempt.abandon()
            raise


def _line(app: App) -> "_Line":
    if app.settings.over_redis:
        return _OverRedis(app)
    return _Plain(app) if app.settings.embedded else _Transactional(app)


class _Line(Protocol):
    def publish(self, signature: Signature, task_id: str, attempt: Attempt) -> None: ...

    def check(self, attempt: Attempt) -> None: ...


class _Plain:
    """Embedded: a message is a file, there at once or not at all."""

    def __init__(self, app: App) -> None:
        self._app = app

    def publish(self, signature: Signature, task_id: str, attempt: Attempt) -> None:
        try:
            attempt.begin_commit()
            _send(self._app, signature, task_id)
        except PublishError as error:
            raise BrokerAway(str(error)) from error

    def check(self, attempt: Attempt) -> None:
        pass


class _OverRedis:
    """Redis: a message is one command. What was sent and not answered may be there."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._mine = threading.local()

    def publish(self, signature: Signature, task_id: str, attempt: Attempt) -> None:
        connection = self._ready(attempt)
        attempt.begin_commit()
        try:
            with self._app.amqp.Producer(connection, auto_declare=False) as producer:
                _send(self._app, signature, task_id, producer=producer, retry=False)
        except (KombuError, RedisError, OSError) as error:
            self._drop()
            raise Uncertain(f"the broker did not answer: {error}") from error

    def check(self, attempt: Attempt) -> None:
        self._ready(attempt)

    def _ready(self, attempt: Attempt) -> Connection:
        """This thread's connection, over which Redis has just answered."""
        attempt.remaining()
        connection: Connection | None = getattr(self._mine, "connection", None)
        try:
            if connection is None:
                # One attempt: kombu would go on for ever.
                bounds = {
                    "socket_connect_timeout": CONNECT_TIMEOUT,
                    "socket_timeout": COMMIT_TIMEOUT,
                    "max_retries": 0,
                }
                connection = self._mine.connection = self._app.connection_for_write(transport_options=bounds)
            connection.default_channel.client.ping()
            return connection
        except (KombuError, RedisError, OSError) as error:
            self._drop()
            raise BrokerAway(f"the broker does not take the task: {error}") from error

    def _drop(self) -> None:
        connection: Connection | None = getattr(self._mine, "connection", None)
        self._mine.connection = None
        if connection is not None:
            connection.collect()


class _Transactional:
    """AMQP: a connection a thread, each with a channel in transaction mode."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._mine = threading.local()
        self._hosts = len(app.settings.broker_urls().split(";"))

    def publish(self, signature: Signature, task_id: str, attempt: Attempt) -> None:
        with self._channel(attempt) as channel:
            producer = Producer(channel, auto_declare=False)
            _send(self._app, signature, task_id, producer=producer, retry=False, timeout=attempt.remaining())
            # A broker with an alarm reads a message's first frame and then nothing more; a paused one reads nothing. An
            # answer to what comes after the message shows that all of it was read.
            _ask(channel, spec.Tx.Select, spec.Tx.SelectOk, attempt.remaining())
            attempt.begin_commit()
            try:
                _ask(channel, spec.Tx.Commit, spec.Tx.CommitOk, COMMIT_TIMEOUT)
            except ChannelError:
                raise  # refused, and so not kept
            except (AMQPError, OSError) as error:
                raise Uncertain(f"the broker did not confirm: {error}") from error

    def check(self, attempt: Attempt) -> None:
        with self._channel(attempt) as channel:
            _ask(channel, spec.Tx.Select, spec.Tx.SelectOk, attempt.remaining())

    @contextmanager
    def _channel(self, attempt: Attempt) -> Iterator[Any]:
        """This thread's channel. On any failure its connection is dropped, and what was not committed with it."""
        try:
            yield self._ready(attempt)
        except BaseException as error:
            self._drop()
            if isinstance(error, AMQPError | KombuError | OSError):
                raise BrokerAway(f"the broker does not take the task: {error}") from error
            raise

    def _ready(self, attempt: Attempt) -> Any:
        attempt.remaining()  # it may have waited for this thread for long
        channel = getattr(self._mine, "channel", None)
        if channel is not None:
            try:
                _ask(channel, spec.Tx.Select, spec.Tx.SelectOk, attempt.remaining())
                return channel
            except (AMQPError, OSError):
                # The broker was started anew since: nothing is lost by another connection.
                self._drop()
        self._mine.connection = connection = self._app.connection_for_write(
            connect_timeout=CONNECT_TIMEOUT,
            # A channel confirms, or it has transactions.
            transport_options={"confirm_publish": False},
        )
        connection.ensure_connection(max_retries=self._hosts - 1, interval_start=0, timeout=attempt.remaining())
        channel = connection.default_channel
        _ask(channel, spec.Tx.Select, spec.Tx.SelectOk, attempt.remaining())
        self._mine.channel = channel
        return channel

    def _drop(self) -> None:
        connection: Connection | None = getattr(self._mine, "connection", None)
        self._mine.channel = self._mine.connection = None
        if connection is not None:
            connection.collect()


def _send(app: App, signature: Signature, task_id: str, **options: Any) -> None:
    app.send_task(signature.task, signature.args, signature.kwargs, task_id=task_id, **{**signature.options, **options})


def _ask(channel: Any, question: Any, answer: Any, timeout: float) -> None:
    """py-amqp's own `tx_select` and `tx_commit` wait without end."""
    channel.send_method(question)
    channel.wait(answer, timeout=timeout)
