"""Celery's Redis result store, with progress."""

import json
import time
from typing import Any

from celery.backends.redis import RedisBackend as CeleryRedisBackend
from celery.exceptions import BackendStoreError
from kombu.utils.encoding import bytes_to_str
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as Gone
from redis.retry import Retry

from shared.message_frames import Catcher
from shared.results import submitted
from shared.results.families import FamilyStore
from shared.results.progress import FINAL_STATES, meta
from shared.results.waiting import ResultConsumer
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


# A success is final: a copy of the task that was lost meanwhile does not overwrite it. The index of the family lasts as
# long as its youngest result.
_STORE_RESULT = """
local task, index, pointer = KEYS[1], KEYS[2], KEYS[3]
local value, expires, caller = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local current = redis.call('GET', task)
if current and cjson.decode(current).status == 'SUCCESS' then
  return 0
end
local function set(key, text)
  if expires > 0 then redis.call('SET', key, text, 'EX', expires) else redis.call('SET', key, text) end
end
set(task, value)
redis.call('PUBLISH', task, value)
if caller ~= '' then redis.call('PUBLISH', caller, value) end
if index then
  redis.call('ZADD', index, ARGV[5], ARGV[4])
  redis.call('ZREMRANGEBYRANK', index, 0, -tonumber(ARGV[6]) - 1)
  if expires > 0 then redis.call('EXPIRE', index, expires) end
  if pointer then set(pointer, ARGV[7]) end
end
return 1
"""


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
        """Ask nothing of Redis: Celery's own subscribes to the result before each publish, whether or not somebody will
        wait for it, and with Redis away it blocks for 20 s. Whoever waits subscribes then, unless it is told.

        What a Catcher publishes is no call."""
        if not isinstance(producer, Catcher):
            self.result_consumer.called(task_id, self.app.thread_oid)

    def add_pending_result(self, result: Any, weak: bool = False, start_drainer: bool = True) -> Any:
        """As Celery's. Who waits for one result that is not told looks for it first: where it is there, nothing is
        subscribed to."""
        if start_drainer and not weak and result._cache is None and not self.result_consumer.tells(result.id):
            meta = self.get_task_meta(result.id)
            if meta["status"] in self.READY_STATES:
                result._maybe_set_cache(meta)
                return result
        return super().add_pending_result(result, weak=weak, start_drainer=start_drainer)

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        """As Celery's, in one step of Redis; Celery first reads what is there, and then writes."""
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        value = self.encode({**meta, "task_id": bytes_to_str(task_id)})
        if len(value) > self._MAX_STR_VALUE_SIZE:
            raise BackendStoreError("value too large for Redis backend", state=state, task_id=task_id)
        caller = getattr(request, "reply_to", None)
        channel = self.callers_channel(caller) if caller and isinstance(caller, str) else b""
        keys, arguments = [self.get_key_for_task(task_id)], [value, int(self.expires or 0), channel]
        if family := facts.related(task_id, request):
            keys.append(self._index(family.of))
            arguments += [family.task, time.time(), facts.MOST, family.of]
            if family.pointed:
                keys.append(self._pointer(family.pointed))
        self.ensure(self._eval, (_STORE_RESULT, keys, arguments))
        return result

    def callers_channel(self, caller: str) -> bytes:
        """The channel on which a caller, of this `reply_to`, is told the results of its calls."""
        channel: bytes = self.get_key_for_task(f"to-{caller}")
        return channel

    def _eval(self, script: str, keys: list[Any], arguments: list[Any]) -> Any:
        return self.client.eval(script, len(keys), *keys, *arguments)

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
