"""The ledger in Redis: each method is one script on the server, timed by the server's clock."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from services.mailer.ledger import KEEP, KEEP_PARKED, Claim, Entry, LeaseLost, LedgerAway, State
from shared import keys

PREFIX = f"{keys.own('mailer')}ledger:"

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
_OWNED = """
local function owned(key, owner)
  local state = redis.call('HGET', key, 'state')
  return (state == 'claimed' or state == 'sending') and redis.call('HGET', key, 'owner') == owner
end
"""
# ARGV: owner, event, lease in ms, park, fresh, seconds to keep, seconds to keep what is parked.
_CLAIM = f"""{_NOW}
local owner, event, lease, park, fresh = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', ARGV[5] == '1'
local found = {{}}
for _, key in ipairs(KEYS) do
  local entry = redis.call('HMGET', key, 'state', 'event', 'note', 'until')
  local state, by, note, until_ = entry[1], entry[2], entry[3], tonumber(entry[4] or '0')
  if state == 'sent' then
    table.insert(found, {{'sent', by, '', 0}})
  elseif state == 'refused' and by == event and not fresh then
    table.insert(found, {{'refused', by, note, 0}})
  elseif (state == 'claimed' or state == 'sending') and until_ > now then
    table.insert(found, {{'busy', by, '', until_ - now}})
  elseif (state == 'sending' or state == 'parked') and park then
    redis.call('HSET', key, 'state', 'parked')
    redis.call('EXPIRE', key, ARGV[7])
    table.insert(found, {{'parked', by, '', 0}})
  else
    redis.call('HSET', key, 'state', 'claimed', 'owner', owner, 'event', event, 'note', '', 'until', now + lease)
    redis.call('EXPIRE', key, ARGV[6])
    table.insert(found, {{'claimed', event, '', 0}})
  end
end
return found
"""
# ARGV: owner, lease in ms.
_BEGIN = f"""{_NOW}
for _, key in ipairs(KEYS) do
  if redis.call('HGET', key, 'state') ~= 'claimed' or redis.call('HGET', key, 'owner') ~= ARGV[1] then
    return 0
  end
end
for _, key in ipairs(KEYS) do
  redis.call('HSET', key, 'state', 'sending', 'until', now + tonumber(ARGV[2]))
end
return 1
"""
# ARGV: owner, event, seconds to keep, how many of KEYS were sent; then a note for each of the others.
_RECORD = f"""{_OWNED}
for number, key in ipairs(KEYS) do
  local sent = number <= tonumber(ARGV[4])
  if sent or owned(key, ARGV[1]) then
    local state, note = sent and 'sent' or 'refused', sent and '' or ARGV[4 + number - tonumber(ARGV[4])]
    redis.call('HSET', key, 'state', state, 'owner', ARGV[1], 'event', ARGV[2], 'note', note, 'until', 0)
    redis.call('EXPIRE', key, ARGV[3])
  end
end
"""
# ARGV: owner.
_RELEASE = f"""{_OWNED}
for _, key in ipairs(KEYS) do
  if owned(key, ARGV[1]) then redis.call('DEL', key) end
end
"""
# ARGV: owner, seconds to keep.
_PARK = f"""{_OWNED}
for _, key in ipairs(KEYS) do
  if owned(key, ARGV[1]) then
    redis.call('HSET', key, 'state', 'parked')
    redis.call('EXPIRE', key, ARGV[2])
  end
end
"""
_FORGET = """
local freed = 0
for _, key in ipairs(KEYS) do
  if redis.call('HGET', key, 'state') == 'parked' then freed = freed + redis.call('DEL', key) end
end
return freed
"""


class RedisLedger:
    """See `Ledger`."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._scripts = {
            text: client.register_script(text) for text in (_CLAIM, _BEGIN, _RECORD, _RELEASE, _PARK, _FORGET)
        }

    def claim(self, keys: Sequence[str], claim: Claim) -> list[Entry]:
        """See Ledger."""
        lease = round(claim.lease * 1000)
        answer = self._run(
            _CLAIM, keys, claim.owner, claim.event, lease, int(claim.park), int(claim.fresh), KEEP, KEEP_PARKED
        )
        return [
            Entry(State(state.decode()), event.decode(), note.decode(), wait / 1000)
            for state, event, note, wait in answer
        ]

    def begin(self, keys: Collection[str], claim: Claim) -> None:
        """See Ledger."""
        if not self._run(_BEGIN, keys, claim.owner, round(claim.lease * 1000)):
            raise LeaseLost(", ".join(keys))

    def record(self, claim: Claim, sent: Collection[str] = (), refused: Mapping[str, str] | None = None) -> None:
        """See Ledger."""
        refused = refused or {}
        self._run(_RECORD, [*sent, *refused], claim.owner, claim.event, KEEP, len(sent), *refused.values())

    def release(self, keys: Collection[str], claim: Claim) -> None:
        """See Ledger."""
        self._run(_RELEASE, keys, claim.owner)

    def park(self, keys: Collection[str], claim: Claim) -> None:
        """See Ledger."""
        self._run(_PARK, keys, claim.owner, KEEP_PARKED)

    def forget_parked(self, prefix: str) -> int:
        """See Ledger."""
        try:
            keys = [key.decode() for key in self._client.scan_iter(match=f"{PREFIX}{prefix}*", count=1000)]
        except RedisError as error:
            raise LedgerAway(str(error)) from error
        return int(self._run(_FORGET, [key.removeprefix(PREFIX) for key in keys]))

    def _run(self, script: str, keys: Collection[str], *arguments: str | int) -> Any:
        try:
            return self._scripts[script](keys=[PREFIX + key for key in keys], args=list(arguments))
        except RedisError as error:
            raise LedgerAway(f"Redis: {error}") from error
