"""Storm control in Redis: each method is one script on the server, so workers count together."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from redis import Redis
from redis.exceptions import RedisError

from services.mailer.storm import HOUR, KEEP, MOST_LINES, OTHERS, WINDOWS, HeldBack, Limits, Report, StormAway
from shared import keys
from shared.signatures.mailer import Window

PREFIX = f"{keys.own('mailer')}storm:"

_ADD = f"""
local function add(held, line)
  local fingerprint = line.fingerprint
  local known = redis.call('HGET', held, fingerprint)
  if not known and fingerprint ~= '{OTHERS}' and redis.call('HLEN', held) >= {MOST_LINES} then
    line = {{fingerprint = '{OTHERS}', subject = 'other errors', count = line.count,
             first = line.first, last = line.last}}
    return add(held, line)
  end
  if known then
    known = cjson.decode(known)
    line.count = line.count + known.count
    line.first = math.min(line.first, known.first)
    if known.last > line.last then line.last, line.subject = known.last, known.subject end
  end
  redis.call('HSET', held, fingerprint, cjson.encode(line))
  redis.call('EXPIRE', held, {KEEP})
end
"""
# KEYS: the fingerprint's window, the mails of the last hour, what is held back, a key a digest.
# ARGV: event, now, seconds of the window, cap, the report as a line.
_ADMIT = f"""{_ADD}
local event, now, window, cap = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - {HOUR})
local opened = redis.call('GET', KEYS[1])
if opened then
  opened = cjson.decode(opened)
  if opened.at <= now - window then opened = nil end
end
if opened and opened.event == event then return 1 end
if not opened and redis.call('ZCARD', KEYS[2]) < cap then
  redis.call('SET', KEYS[1], cjson.encode({{event = event, at = now}}), 'EX', math.ceil(window))
  redis.call('ZADD', KEYS[2], now, event)
  redis.call('EXPIRE', KEYS[2], {HOUR})
  return 1
end
for index = 3, #KEYS do add(KEYS[index], cjson.decode(ARGV[5])) end
return 0
"""
# KEYS: what is held back. ARGV: lines.
_HOLD = f"""{_ADD}
for _, line in ipairs(ARGV) do add(KEYS[1], cjson.decode(line)) end
"""
# KEYS: what is held back, what the digest of this event took.
_TAKE = """
if redis.call('EXISTS', KEYS[2]) == 0 and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('RENAME', KEYS[1], KEYS[2])
end
return redis.call('HVALS', KEYS[2])
"""
_DONE = "return redis.call('DEL', KEYS[1])"


class RedisStorm:
    """See `Storm`."""

    def __init__(self, client: Redis) -> None:
        self._scripts = {text: client.register_script(text) for text in (_ADMIT, _HOLD, _TAKE, _DONE)}

    def admit(self, report: Report, limits: Limits, now: float) -> bool:
        """See Storm."""
        line = HeldBack(report.fingerprint, report.subject, 1, report.seen, report.seen)
        keys = [f"open:{report.fingerprint}", "mailed", *map(_held, WINDOWS)]
        return bool(self._run(_ADMIT, keys, report.event, now, limits.window, limits.hourly, _dump(line)))

    def hold(self, window: Window, lines: Iterable[HeldBack]) -> None:
        """See Storm."""
        self._run(_HOLD, [_held(window)], *map(_dump, lines))

    def take(self, window: Window, event: str) -> list[HeldBack]:
        """See Storm."""
        lines = [HeldBack(**json.loads(line)) for line in self._run(_TAKE, [_held(window), _taken(window, event)])]
        return sorted(lines, key=lambda line: (-line.count, line.fingerprint))

    def done(self, window: Window, event: str) -> None:
        """See Storm."""
        self._run(_DONE, [_taken(window, event)])

    def _run(self, script: str, keys: Sequence[str], *arguments: str | float) -> list[bytes]:
        try:
            return self._scripts[script](keys=[PREFIX + key for key in keys], args=list(arguments))
        except RedisError as error:
            raise StormAway(f"Redis: {error}") from error


def _held(window: Window) -> str:
    return f"held:{window}"


def _taken(window: Window, event: str) -> str:
    return f"taken:{window}:{event}"


def _dump(line: HeldBack) -> str:
    return json.dumps(asdict(line))
