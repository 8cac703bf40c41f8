"""Working state of conversations and the live events of running turns, in Redis.

Nothing here is needed to be right, only to be quick: the state can be worked out again by the tools, and a turn's
events are in its row once it has ended. So every failure is logged and survived, and `degraded` says that it happened.
Commands are those of Redis 6.2. Every key carries the tenant.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import orjson
import redis.asyncio as redis
import structlog
from redis.exceptions import RedisError

from agent.errors import StoreUnavailable
from tools.contract import ToolState

log = structlog.get_logger(__name__)

TIMEOUT_S = 2.0
EVENTS_KEPT_S = 600
EVENT_BATCHES_KEPT = 4096
LOST = (RedisError, OSError, TimeoutError)


class Sessions:
    """Session state with an idle life, and event streams, of all tenants."""

    def __init__(self, url: str, idle_s: int) -> None:
        # Any: the library's types cover text and bytes at once; with these options everything is bytes.
        self._redis: Any = redis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            health_check_interval=0,
            max_connections=64,
        )
        self._idle_s = idle_s
        self.degraded = False
        self.hears_stops = False

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.aclose()

    async def ping(self) -> bool:
        """Whether Redis answers now."""
        try:
            await self._redis.ping()
        except LOST as error:
            self._lost("ping", error)
            return False
        self.degraded = False
        return True

    async def load(self, tenant: str, conversation_id: UUID) -> tuple[ToolState, bytes]:
        """The state, its life renewed, and its stored form (shows later whether it changed); empty without one."""
        try:
            stored = await self._redis.getex(_state_key(tenant, conversation_id), ex=self._idle_s)
        except LOST as error:
            self._lost("load", error)
            return ToolState(), b""
        self.degraded = False
        return (ToolState(orjson.loads(stored)), stored) if stored else (ToolState(), b"")

    async def save(self, tenant: str, conversation_id: UUID, state: ToolState, loaded: bytes) -> None:
        """Store the state if it differs from what was loaded."""
        body = orjson.dumps(state.values, option=orjson.OPT_NON_STR_KEYS)
        if body == loaded or (not state.values and not loaded):
            return
        try:
            await self._redis.set(_state_key(tenant, conversation_id), body, ex=self._idle_s)
        except LOST as error:
            self._lost("save", error)

    async def publish(self, tenant: str, turn_id: UUID, lines: bytes) -> None:
        """Append a batch of a turn's events (JSON lines) for followers on other replicas and for a take-over."""
        key = _events_key(tenant, turn_id)
        try:
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.xadd(key, {"e": lines}, maxlen=EVENT_BATCHES_KEPT, approximate=True)
            pipeline.expire(key, EVENTS_KEPT_S)
            await pipeline.execute()
        except LOST as error:
            self._lost("publish", error)

    async def published(self, tenant: str, turn_id: UUID) -> bytes:
        """All batches of a turn so far, joined; empty when there are none."""
        try:
            entries = await self._redis.xrange(_events_key(tenant, turn_id))
        except LOST as error:
            self._lost("published", error)
            return b""
        return b"".join(fields[b"e"] for _, fields in entries)

    async def follow(self, tenant: str, turn_id: UUID, wait_s: float = 1.0) -> AsyncIterator[bytes]:
        """Batches of a turn from its first on; `b""` after `wait_s` seconds without one. Ends when Redis is lost."""
        last = b"0"
        key = _events_key(tenant, turn_id)
        while True:
            try:
                answer = await self._redis.xread({key: last}, block=int(wait_s * 1000), count=100)
            except LOST as error:
                self._lost("follow", error)
                return
            if not answer:
                yield b""
                continue
            for _, entries in answer if isinstance(answer, list) else answer.items():
                for entry_id, fields in entries:
                    last = entry_id
                    yield fields[b"e"]

    async def exchanges(self, tenant: str, session: str) -> list[bytes]:
        """Questions and answers of a session over documents, oldest first; none when there is no such session.

        Raises `StoreUnavailable`: without Redis nobody knows whether there is.
        """
        try:
            kept: list[bytes] = await self._redis.lrange(_exchanges_key(tenant, session), 0, -1)
        except LOST as error:
            self._lost("exchanges", error)
            raise StoreUnavailable("Redis did not answer") from error
        return kept

    async def keep_exchange(self, tenant: str, session: str, exchange: bytes, most: int) -> None:
        """Add one, begin the session with it if it is the first, and forget all but the last `most`."""
        key = _exchanges_key(tenant, session)
        try:
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.rpush(key, exchange)
            pipeline.ltrim(key, -most, -1)
            pipeline.expire(key, self._idle_s)
            await pipeline.execute()
        except LOST as error:
            self._lost("keep_exchange", error)

    async def announce_stop(self, tenant: str, turn_id: UUID) -> None:
        """Let whoever runs this turn know that it is to be stopped. Its row says so too, and is what counts."""
        try:
            await self._redis.publish(_stops_channel(tenant), turn_id.bytes)
        except LOST as error:
            self._lost("announce_stop", error)

    async def stops(self, wait_s: float = 1.0) -> AsyncIterator[UUID | None]:
        """Turns that are to be stopped, of all replicas; None after `wait_s` seconds without. Ends without Redis."""
        try:
            async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
                await channel.psubscribe(_stops_channel("*"))
                self.hears_stops = True
                while True:
                    message = await channel.get_message(timeout=wait_s)
                    yield UUID(bytes=message["data"]) if message else None
        except (*LOST, ValueError) as error:
            self._lost("stops", error)
        finally:
            self.hears_stops = False

    def _lost(self, what: str, error: Exception) -> None:
        self.degraded = True
        log.warning("redis_lost", doing=what, error=repr(error))


def _state_key(tenant: str, conversation_id: UUID) -> str:
    return f"outcrop:{tenant}:session:{conversation_id.hex}"


def _events_key(tenant: str, turn_id: UUID) -> str:
    return f"outcrop:{tenant}:turn:{turn_id.hex}:events"


def _exchanges_key(tenant: str, session: str) -> str:
    return f"outcrop:{tenant}:exchanges:{session}"


def _stops_channel(tenant: str) -> str:
    return f"outcrop:{tenant}:stops"
