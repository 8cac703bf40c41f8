"""Limits on models that all replicas keep together: how often a provider is asked, and what may be spent.

One script call each. Times are those of Redis. Commands are those of Redis 6.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

TIMEOUT_S = 0.5
KEPT_S = 600
DAY_KEPT_S = 2 * 86_400

# A bucket as the time at which it will be full again (a virtual schedule): reserving a place moves that time on.
# ARGV: tokens a second, tokens at once, longest wait in ms. Answers with the wait in ms; below 0 nothing was taken,
# and its size is how long the wait would have been. After a throttle the rate is a share of itself, which doubles
# every half minute, and until the time that the provider named nothing is taken at all.
TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local rate, burst, patience = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local stored = redis.call('HMGET', KEYS[1], 'full', 'share', 'since', 'paused')
local full, share = tonumber(stored[1]) or 0, tonumber(stored[2]) or 1
local since, paused = tonumber(stored[3]) or now, tonumber(stored[4]) or 0
share = math.min(1, share * 2 ^ ((now - since) / 30000))
local each = 1000 / (rate * share)
full = math.max(full, now)
local wait = math.max(0, math.ceil(full + each - burst * each - now), paused - now)
if wait > patience then return -wait end
redis.call('HSET', KEYS[1], 'full', tostring(full + each), 'share', tostring(share), 'since', now, 'paused', paused)
redis.call('EXPIRE', KEYS[1], ARGV[4])
return wait
"""

# ARGV: how long the provider asked us to wait in ms, 0 if it did not say.
THROTTLED = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local stored = redis.call('HMGET', KEYS[1], 'share', 'since')
local share, since = tonumber(stored[1]) or 1, tonumber(stored[2]) or now
share = math.min(1, share * 2 ^ ((now - since) / 30000))
redis.call('HSET', KEYS[1], 'share', tostring(math.max(0.05, share / 2)), 'since', now, 'paused', now + ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""

# KEYS: sums. ARGV: millionths of a dollar to set aside, seconds to keep them, and for each key its limit.
# Answers 0 when it was set aside, n when the n-th would overflow, -n when the n-th is not there.
RESERVE = """
for i, key in ipairs(KEYS) do
  local sum = redis.call('GET', key)
  if not sum then return -i end
  if tonumber(sum) + ARGV[1] > tonumber(ARGV[2 + i]) then return i end
end
for i, key in ipairs(KEYS) do
  redis.call('INCRBY', key, ARGV[1])
  redis.call('EXPIRE', key, ARGV[2])
end
return 0
"""


# KEYS: sums. ARGV: millionths of a dollar to add, where there is something to add them to: a sum that is gone begins
# anew from the records, which is more than a difference could say.
CORRECT = """
for _, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 1 then redis.call('INCRBY', key, ARGV[1]) end
end
return 1
"""


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum of money over a day with its limit, in millionths of a dollar."""

    key: str
    limit: int


class ModelLimits:
    """The shared side of gates and purses. Every method raises `RedisError` or `OSError` without Redis."""

    def __init__(self, url: str, tenant: str) -> None:
        # A command that may have been carried out must not be sent again: it would count twice.
        self._redis = redis.Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
        self._tenant = tenant
        self._take = self._redis.register_script(TAKE)
        self._throttled = self._redis.register_script(THROTTLED)
        self._reserve = self._redis.register_script(RESERVE)
        self._correct = self._redis.register_script(CORRECT)

    async def take(self, provider: str, per_second: float, burst: int, patience_s: float) -> float:
        """Reserve a place for one call; seconds until it is due. Below 0: not reserved, it would have been so far."""
        wait_ms: int = await self._take(
            keys=[self._rate_key(provider)], args=[per_second, burst, round(patience_s * 1000), KEPT_S]
        )
        return wait_ms / 1000

    async def throttled(self, provider: str, retry_after_s: float) -> None:
        """The provider refused a call as too many: halve the rate for all, and pause as long as it says."""
        await self._throttled(keys=[self._rate_key(provider)], args=[round(retry_after_s * 1000), KEPT_S])

    async def reserve(self, micro_usd: int, sums: Sequence[Sum]) -> int:
        """Add to all sums or to none: 0, or the number (from 1) of the first that is full, below 0 if it is unknown."""
        found: int = await self._reserve(
            keys=[self.sum_key(each.key) for each in sums],
            args=[micro_usd, DAY_KEPT_S, *(each.limit for each in sums)],
        )
        return found

    async def begin(self, key: str, micro_usd: int) -> None:
        """Set a sum that is not there to what is on record."""
        await self._redis.set(self.sum_key(key), micro_usd, ex=DAY_KEPT_S, nx=True)

    async def correct(self, micro_usd: int, keys: Sequence[str]) -> None:
        """Add the difference between what was set aside and what was spent, to sums that are there."""
        await self._correct(keys=[self.sum_key(key) for key in keys], args=[micro_usd])

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    def sum_key(self, key: str) -> str:
        """Where a sum is stored."""
        return f"outcrop:{self._tenant}:spent:{key}"

    def _rate_key(self, provider: str) -> str:
        return f"outcrop:{self._tenant}:model_rate:{provider}"
