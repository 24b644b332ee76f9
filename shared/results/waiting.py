"""Whoever waits for results in Redis: subscribed to each, or told all of them over a channel of its own.

A worker publishes each result on two channels: that of the task, and that of the caller, whose name is the message's
`reply_to`. Who waits for what it has called last subscribes to both. From then on nothing needs to be asked of Redis
for what it calls: neither to look for the result nor to subscribe to it, which is most of what a short task costs its
caller. Nothing stands on it: what is not told within `PATIENCE` is looked for, and subscribed to, as every other.
"""

from collections.abc import Iterator
from time import monotonic
from typing import Any

from celery.backends.redis import ResultConsumer as CeleryResultConsumer
from celery.exceptions import TimeoutError as GivenUp
from celery.states import READY_STATES

#: Seconds after its call in which a result is expected over the caller's own channel, and not looked for.
PATIENCE = 0.25
#: Calls whose results nobody has waited for, and with which a caller hangs up. So many results Redis keeps for it.
MOST = 100
#: Results that had to be looked for although they were there, and after which a caller does without: workers of
#: another release do not know its channel.
MISSES = 3


class ResultConsumer(CeleryResultConsumer):
    """Waits for results.

    It looks at a result once more when Redis has confirmed that it will tell of it. Whoever waits subscribes over one
    connection and looks over another: where Redis sees the look first, a result that comes between the two is told to
    nobody, and Celery's own waits until its timeout. A proxy in between is enough.
    """

    _pubsub: Any
    on_message: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: What was called last, and by which thread; each thread has a `reply_to` of its own.
        self._last: tuple[str, str] = ("", "")
        self._misses = 0
        self._hang_up()

    def _hang_up(self) -> None:
        #: The thread whose channel this is, and whether Redis has confirmed that it tells of it.
        self._owner, self._open = "", False
        #: Until when the result of a call is expected over that channel, and the same of those that are waited for.
        self._told: dict[str, float] = {}
        self._awaited: dict[str, float] = {}
        #: Keys that were subscribed to because nothing was told.
        self._missed: set[bytes] = set()

    def called(self, task_id: str, thread: str) -> None:
        """A task is about to be published. This never waits, whatever has become of Redis.

        Args:
            thread: the message's `reply_to`.
        """
        self._last = task_id, thread
        if not self._open or thread != self._owner:
            return
        self._told[task_id] = monotonic() + PATIENCE
        if len(self._told) > MOST or self._misses >= MISSES:
            self._close()

    def tells(self, task_id: str) -> bool:
        """Whether a result is expected over the caller's own channel."""
        return self._told.get(task_id, 0.0) > monotonic()

    def _close(self) -> None:
        # Not by a word to Redis, for which one may have to wait.
        self._told.clear()
        if self.subscribed_to or self._awaited or self._lock_depth.value:
            return
        if not self._pubsub_lock.acquire(blocking=False):
            return
        try:
            pubsub, self._pubsub = self._pubsub, None
            self._hang_up()
            if pubsub is not None:
                pubsub.close()
        finally:
            self._pubsub_lock.release()

    def consume_from(self, task_id: str) -> Any:
        """As Celery's, but for what is told without being subscribed to."""
        with self._locked():
            if self.tells(task_id):
                self._awaited[task_id] = self._told[task_id]
                return None
            self._told.pop(task_id, None)
            return super().consume_from(task_id)

    def _consume_from(self, task_id: str) -> None:
        key = self._get_key_for_task(task_id)
        last, thread = self._last
        own = not self._owner and task_id == last and self._misses < MISSES
        if own and key not in self.subscribed_to:
            self._owner = thread
            with self.reconnect_on_error():
                # Its confirmation comes first, and is read by whoever waits for the task.
                self._pubsub.subscribe(self._channel())
        super()._consume_from(task_id)

    def _channel(self) -> bytes:
        channel: bytes = self.backend.callers_channel(self._owner)
        return channel

    def cancel_for(self, task_id: str) -> None:
        """As Celery's."""
        self._told.pop(task_id, None)
        self._awaited.pop(task_id, None)
        super().cancel_for(task_id)

    def on_wait_for_pending(self, result: Any, **kwargs: Any) -> None:
        """As Celery's, which looks at what is waited for. What is told, or was just subscribed to, is left to Redis.

        Where some of a group's results are not there yet, Celery's sleeps for half a second here.
        """
        parts = getattr(result, "results", None)
        if parts:
            self._look_at([part.id for part in parts])
            return
        told = result.id in self._awaited or self._get_key_for_task(result.id) in self.subscribed_to
        if result._cache is not None or not told:
            super().on_wait_for_pending(result, **kwargs)

    def _look_at(self, ids: list[str]) -> None:
        waited = [one for one in ids if one not in self._awaited and any(one in some for some in self._pending_results)]
        if not waited:
            return
        for value in self.backend.client.mget([self._get_key_for_task(one) for one in waited]):
            if value:
                self.on_state_change(self._decode_result(value), None)

    def drain_events(self, timeout: float | None = None) -> None:
        """As Celery's. What was not told in time is subscribed to."""
        if self._awaited:
            now = monotonic()
            untold = [task_id for task_id, until in list(self._awaited.items()) if until <= now]
            for task_id in untold:
                self._miss(task_id)
            left = min((until - now for until in list(self._awaited.values())), default=1.0)
            timeout = min(1.0 if timeout is None else timeout, left)
        super().drain_events(timeout)

    def _miss(self, task_id: str) -> None:
        with self._locked():
            self._told.pop(task_id, None)
            if self._awaited.pop(task_id, None) is not None:
                self._missed.add(self._get_key_for_task(task_id))
                super().consume_from(task_id)

    def _drain_one(self, pubsub: Any, timeout: float | None) -> bool:
        with self.reconnect_on_error():
            connection = pubsub.connection
            if not (pubsub.subscribed and connection is not None and connection.can_read(timeout=0)):
                return False
            # Celery's asks for them not to be told.
            pubsub.ignore_subscribe_messages = False
            message = pubsub.get_message(timeout=timeout) or {}
            if message.get("type") == "message":
                self._hear(message)
            elif message.get("type") == "subscribe":
                self._confirmed(message["channel"])
        return True

    def _hear(self, message: dict[str, Any]) -> None:
        meta = self._decode_result(message["data"])
        if not self._owner or message["channel"] != self._channel():
            self.on_state_change(meta, message)
            return
        task_id = meta["task_id"]
        awaited = task_id in self._awaited
        if meta["status"] in READY_STATES:
            # Who waits for it later, looks for it.
            self._told.pop(task_id, None)
        if awaited:
            self._misses = 0
            self._told_of(task_id, meta)

    def _told_of(self, task_id: str, meta: dict[str, Any]) -> None:
        # As `on_state_change`, without Celery's `sleep(0)`: for Linux that is 50 us and more.
        if self.on_message:
            self.on_message(meta)
        if meta["status"] not in READY_STATES:
            return
        self._awaited.pop(task_id, None)
        for waiters in self._pending_results:
            for result in list(waiters.get(task_id, {}).values()):
                result._maybe_set_cache(meta)
                bucket = self.buckets.pop(result, None)
                if bucket is not None:
                    bucket.append(result)

    def _wait_for_pending(
        self,
        result: Any,
        timeout: float | None = None,
        on_interval: Any = None,
        on_message: Any = None,
        **kwargs: Any,
    ) -> Iterator[None]:
        """As Celery's, without its `sleep(0)`."""
        self.on_wait_for_pending(result, timeout=timeout, **kwargs)
        before, self.on_message = self.on_message, on_message
        try:
            yield from self.drain_events_until(result.on_ready, timeout=timeout, on_interval=on_interval)
        except TimeoutError:
            raise GivenUp("The operation timed out.") from None
        finally:
            self.on_message = before

    def _confirmed(self, key: bytes) -> None:
        if self._owner and key == self._channel():
            self._open = True
        elif key in self.subscribed_to and key not in self._pending_unsubscribe:
            value = self.backend.client.get(key)
            if value:
                meta = self._decode_result(value)
                if key in self._missed and meta["status"] in READY_STATES:
                    self._misses += 1
                self.on_state_change(meta, None)
            self._missed.discard(key)

    def _reconnect_pubsub(self) -> None:
        with self._locked():
            # What was told meanwhile is lost.
            self.subscribed_to.update(self._get_key_for_task(task_id) for task_id in self._awaited)
            self._hang_up()
            super()._reconnect_pubsub()

    def on_after_fork(self) -> None:
        """As Celery's."""
        self._hang_up()
        super().on_after_fork()
