"""Circuit breakers shared by all replicas: one script call a refresh carries the news of all of them both ways.

Without Redis each process goes on with what it knows, and tells the others when Redis is back. A stored circuit is a
hash; what changes it carries the `epoch` it is based on, so that news of a time before the last opening or closing, as
everyone knows it, counts no more. Times are those of Redis. Commands are those of Redis 6.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container
from uuid import uuid4

import redis.asyncio as redis
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from backend.sessions.store import LOST
from tools.breaker import Breaker, Circuit, News, Snapshot

log = structlog.get_logger(__name__)

REFRESH_S = 0.2
RETRY_S = 1.0  # while Redis is away
TIMEOUT_S = 0.5
PROBE_LEASE_S = 2.0  # renewed with every refresh; a prober that is killed keeps the others out this long
KEPT_S = 3600

# For each key: epoch, open, change, wait_ms, succeeded, failures, probing, fail_max, reset_ms.
# Answers for each: epoch, open, failures, wait_ms, and who probes (0 nobody, 1 we, 2 another).
EXCHANGE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local me, lease, kept = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local answers = {}
for i, key in ipairs(KEYS) do
  local at = 3 + (i - 1) * 9
  local told = {}
  for n = 1, 9 do told[n] = tonumber(ARGV[at + n]) end
  local stored = redis.call('HMGET', key, 'epoch', 'open', 'failures', 'due', 'prober', 'lease')
  local epoch, open = tonumber(stored[1]) or 0, stored[2] == '1'
  local failures, due = tonumber(stored[3]) or 0, tonumber(stored[4]) or 0
  local prober, until_ = stored[5] or '', tonumber(stored[6]) or 0
  local dirty = false
  if until_ <= now then prober = '' end

  local function turn(to_open, wait)
    epoch, open, due, failures, prober, dirty = math.max(now, epoch + 1), to_open, now + wait, 0, '', true
  end
  if epoch == 0 or told[1] == epoch then
    if told[3] == 1 then
      if told[2] == 1 or open then turn(told[2] == 1, told[4]) end
      failures = told[6]
    elseif not open and (told[6] > 0 or (told[5] == 1 and failures > 0)) then
      failures = (told[5] == 1 and 0 or failures) + told[6]
      dirty = true
    end
    if not open and failures >= told[8] then turn(true, told[9]) end
  end

  if prober == me and told[7] == 0 then
    prober, dirty = '', true
  elseif open and told[7] == 1 and due <= now and (prober == '' or prober == me) then
    prober, until_, dirty = me, now + lease, true
  end
  if dirty then
    if epoch == 0 then epoch = now end
    redis.call('HSET', key, 'epoch', epoch, 'open', open and 1 or 0, 'failures', failures, 'due', due,
               'prober', prober, 'lease', until_)
    redis.call('EXPIRE', key, kept)
  end
  local who = 0
  if prober ~= '' then who = prober == me and 1 or 2 end
  answers[i] = {epoch, open and 1 or 0, failures, math.max(0, due - now), who}
end
return answers
"""


class RedisBreakers:
    """`tools.breaker.Exchange` over Redis, for the breakers of one process and one tenant. `start`, then `close`."""

    def __init__(self, url: str, tenant: str) -> None:
        # A command that may have been carried out must not be sent again: its failures would count twice.
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            max_connections=1,
        )
        self._script = self._redis.register_script(EXCHANGE)
        self._tenant = tenant
        self._me = uuid4().hex
        self._breakers: dict[str, Breaker] = {}
        self._claims: dict[str, asyncio.Future[bool]] = {}
        self._awake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._said = False
        self.shared = False  # whether Redis answered last

    def start(self) -> None:
        """Begin to exchange, every `REFRESH_S` and whenever there is news."""
        self._task = asyncio.create_task(self._keep_exchanging())

    async def close(self) -> None:
        """Stop; the breakers go on alone."""
        self._closing = True
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._redis.aclose()

    def join(self, breaker: Breaker) -> None:
        """See `Exchange.join`. One breaker a name: two would take each other's probes for their own."""
        if breaker.name in self._breakers:
            raise ValueError(f"there is a breaker {breaker.name!r} already; share that one")
        self._breakers[breaker.name] = breaker

    def wake(self) -> None:
        """See `Exchange.wake`."""
        self._awake.set()

    async def claim(self, breaker: Breaker) -> bool:
        """See `Exchange.claim`; waits for one round trip."""
        if not self.shared:
            return True
        asked: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._claims[breaker.name] = asked
        self._awake.set()
        return await asked

    def snapshots(self) -> dict[str, Snapshot]:
        """How each breaker stands, as far as this process knows."""
        return {name: breaker.snapshot() for name, breaker in sorted(self._breakers.items())}

    async def _keep_exchanging(self) -> None:
        try:
            while not self._closing:  # a cancellation within a command does not always come out of the Redis client
                try:
                    await self._exchange()
                except Exception:  # outermost loop: one answer that cannot be read must not part the replicas for good
                    log.exception("breakers_stumbled")
                    self.shared = False
                await self._rest()
        finally:
            self.shared = False
            _grant(self._claims)

    async def _rest(self) -> None:
        if not self.shared:
            await asyncio.sleep(RETRY_S)
            return
        try:
            async with asyncio.timeout(REFRESH_S):
                await self._awake.wait()
        except TimeoutError:
            return

    async def _exchange(self) -> None:
        self._awake.clear()
        claims, self._claims = self._claims, {}
        told = {name: breaker.news() for name, breaker in self._breakers.items()}
        answers: list[list[int]] = []
        try:
            if told:
                answers = await self._script(
                    keys=[breaker_key(self._tenant, name) for name in told],
                    args=[self._me, _ms(PROBE_LEASE_S), KEPT_S, *self._arguments(told)],
                )
            self._regained()
            for (name, news), answer in zip(told.items(), answers, strict=True):
                self._breakers[name].learn(news, _circuit(answer))
        except LOST as error:
            self._lost(error)
        finally:
            if not answers:
                for name, news in told.items():
                    self._breakers[name].untold(news)
            others = {name for name, answer in zip(told, answers, strict=False) if answer[4] != 1}
            _grant(claims, others)

    def _arguments(self, told: dict[str, News]) -> list[int]:
        return [
            number
            for name, news in told.items()
            for number in (
                news.epoch,
                int(news.open),
                int(news.change),
                _ms(news.wait_s),
                int(news.succeeded),
                news.failures,
                int(news.probing),
                self._breakers[name].fail_max,
                _ms(self._breakers[name].reset_s),
            )
        ]

    def _lost(self, error: Exception) -> None:
        if self.shared or not self._said:
            log.warning("breakers_alone", error=repr(error))
        self.shared, self._said = False, True

    def _regained(self) -> None:
        if self._said and not self.shared:
            log.info("breakers_shared")
        self.shared, self._said = True, True


async def not_closed(url: str, tenant: str) -> list[str]:
    """Upstreams whose circuit is open on record; `RedisError` or `OSError` without Redis."""
    client = redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
    prefix = breaker_key(tenant, "")
    try:
        keys = sorted([key async for key in client.scan_iter(match=f"{prefix}*", count=500)])
        states = [await client.hget(key, "open") for key in keys]
    finally:
        await client.aclose()
    return [key.decode().removeprefix(prefix) for key, state in zip(keys, states, strict=True) if state == b"1"]


def breaker_key(tenant: str, upstream: str) -> str:
    """Where the circuit of an upstream is stored."""
    return f"outcrop:{tenant}:breaker:{upstream}"


def _grant(claims: dict[str, asyncio.Future[bool]], but: Container[str] = ()) -> None:
    """Let those who wait for the right to probe have it; each process by itself, where Redis has no say."""
    for name, claim in claims.items():
        if not claim.done():
            claim.set_result(name not in but)


def _circuit(answer: list[int]) -> Circuit:
    epoch, is_open, failures, wait_ms, who = answer
    return Circuit(epoch, bool(is_open), failures, wait_ms / 1000, who == 2)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
