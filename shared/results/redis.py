"""Celery's Redis result store, with progress."""

import json
import time
from typing import Any

from celery.backends.redis import RedisBackend as CeleryRedisBackend
from celery.backends.redis import ResultConsumer as CeleryResultConsumer
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as Gone
from redis.retry import Retry

from shared.results import submitted
from shared.results.families import FamilyStore
from shared.results.progress import FINAL_STATES, meta
from shared.trace import facts

# One step on the server, so that a late page cannot overwrite the failure, or the answer, of the whole.
# A subscriber hears of it as of every other state.
_STORE = """
local task, parts = KEYS[1], KEYS[2]
local meta, done, part, expires, final = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local current = redis.call('GET', task)
if current and string.find(final, ' ' .. cjson.decode(current).status .. ' ', 1, true) then
  return 0
end
if part ~= '' then
  redis.call('SADD', parts, part)
  redis.call('EXPIRE', parts, expires)
  done = redis.call('SCARD', parts)
end
meta = string.gsub(meta, '"@done@"', tostring(done))
redis.call('SET', task, meta, 'EX', expires)
redis.call('PUBLISH', task, meta)
return 1
"""

# Reading and deleting in one step, so that a worker's first word in between is not deleted.
_WITHDRAW = """
local current = redis.call('GET', KEYS[1])
if current and cjson.decode(current).status == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
"""


class ResultConsumer(CeleryResultConsumer):
    """Looks at a result once more when Redis has confirmed that it will tell of it.

    Whoever waits subscribes over one connection and looks over another. Where Redis sees the look first, a result that
    comes between the two is told to nobody, and Celery's own waits until its timeout. A proxy in between is enough.
    """

    def _drain_one(self, pubsub: Any, timeout: float | None) -> bool:
        with self.reconnect_on_error():
            connection = pubsub.connection
            if not (pubsub.subscribed and connection is not None and connection.can_read(timeout=0)):
                return False
            # Celery's asks for them not to be told.
            pubsub.ignore_subscribe_messages = False
            message = pubsub.get_message(timeout=timeout) or {}
            key = message.get("channel")
            if message.get("type") == "message":
                self.on_state_change(self._decode_result(message["data"]), message)
            elif message.get("type") == "subscribe" and key in self.subscribed_to - self._pending_unsubscribe:
                value = self.backend.client.get(key)
                if value:
                    self.on_state_change(self._decode_result(value), None)
        return True


class RedisBackend(FamilyStore, CeleryRedisBackend):
    """Results in Redis; see `shared.results.progress` and `shared.results.submitted` for what it adds."""

    ResultConsumer = ResultConsumer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if getattr(self.app, "spec", None) is not None:
            # That Redis has closed a worker's connection meanwhile is no reason for a task to fail. What a worker says
            # may be said twice: a chord counts its parts as a set.
            self.connparams |= {"retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), 3), "retry_on_error": [Gone]}

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Nothing: Celery's own subscribes to the result before each publish, whether or not somebody will wait for it,
        and with Redis away it blocks for 20 s. Whoever waits subscribes then, and looks at what is there already."""

    def _set(self, key: Any, value: Any, expires: int | None = None) -> None:
        family = facts.family()
        if family is None:
            return super()._set(key, value, expires)
        lasts = int(expires or self.expires or 86400)
        index = self._index(family.of)
        # As Celery's, and the index on the same way.
        with self.client.pipeline() as pipe:
            pipe.set(key, value, ex=lasts)
            pipe.publish(key, value)
            pipe.zadd(index, {family.task: time.time()})
            pipe.zremrangebyrank(index, 0, -facts.MOST - 1)
            pipe.expire(index, lasts)
            if family.pointed:
                pipe.set(self._pointer(family.pointed), family.of, ex=lasts)
            pipe.execute()

    def _index(self, one: str) -> bytes:
        return self.get_key_for_task(one) + b":family"

    def _pointer(self, group: str) -> bytes:
        return self.get_key_for_task(group) + b":first"

    def family(self, one: str) -> list[str]:
        """Ids of tasks of the canvas that began with the task `one`, or of that group, in the order of their end."""
        return [member.decode() for member in self.client.zrange(self._index(one), 0, -1)]

    def first_of(self, group: str) -> str | None:
        """The first task of the canvas that the group is a part of; None where it is the whole."""
        found = self.client.get(self._pointer(group))
        return None if found is None else found.decode()

    def store_progress(self, task_id: str, stage: str, total: int, *, done: int = 0, part: str | None = None) -> None:
        """Store progress unless the task is final."""
        key = self.get_key_for_task(task_id)
        self.client.eval(
            _STORE,
            2,
            key,
            key + b":" + stage.encode(),
            json.dumps(meta(task_id, stage, "@done@", total)),
            done,
            part or "",
            int(self.expires or 86400),
            f" {' '.join(FINAL_STATES)} ",
        )

    def store_submitted(self, task_id: str) -> None:
        """Remember a task that was handed in, unless it is known."""
        value = json.dumps(submitted.meta(task_id))
        self.client.set(self.get_key_for_task(task_id), value, ex=int(self.expires or 86400), nx=True)

    def withdraw_submitted(self, task_id: str) -> None:
        """Forget a task that was handed in, unless more is known of it."""
        self.client.eval(_WITHDRAW, 1, self.get_key_for_task(task_id), submitted.SUBMITTED)
