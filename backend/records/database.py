"""The connection pool, and the one place where a caller becomes a `WHERE`.

Statements of a turn go to asyncpg directly: a tenth of the CPU of the same statement through SQLAlchemy. Each function
of this package is one statement, so each is atomic by itself and no connection is held between two of them.
"""

from __future__ import annotations

from typing import Any

import asyncpg
import orjson

from agent.errors import StoreUnavailable
from backend.identity.principal import Principal

# Conversations (alias c) that a caller may see, over the parameters `scope` gives.
THEIRS = "c.tenant = $1 AND c.owner = $2"
UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
)
STATEMENT_TIMEOUT_S = 10.0


def scope(caller: Principal) -> tuple[str, str]:
    """The first two parameters of every statement that uses `THEIRS`: tenant and owner."""
    return caller.tenant, caller.subject


async def _leave_as_is(_connection: object) -> None:
    """Replaces the pool's reset statement: nothing here changes the state of a connection."""


def to_json_text(value: Any) -> str:
    """JSON for a `json` column. Postgres can hold no NUL; one in a text becomes the replacement character."""
    encoded = orjson.dumps(value, default=str)
    if b"\\u0000" in encoded:
        encoded = orjson.dumps(_without_nul(orjson.loads(encoded)))
    return encoded.decode()


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(each) for key, each in value.items()}
    return [_without_nul(each) for each in value] if isinstance(value, list) else value


class Database:
    """A pool; every method is one statement in a transaction of its own, `StoreUnavailable` when it cannot run."""

    def __init__(self, url: str, *, max_connections: int = 10) -> None:
        self._url = url
        self._max_connections = max_connections
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def open(self) -> None:
        """Connect; `StoreUnavailable` when there is no server."""
        try:
            self._pool = await asyncpg.create_pool(
                self._url,
                min_size=1,
                max_size=self._max_connections,
                command_timeout=STATEMENT_TIMEOUT_S,
                timeout=STATEMENT_TIMEOUT_S,
                reset=_leave_as_is,
            )
        except (*UNREACHABLE, asyncpg.PostgresError) as error:
            raise StoreUnavailable(f"no connection to PostgreSQL: {error}") from error

    async def close(self) -> None:
        """Disconnect; statements still running are given a moment."""
        if self._pool:
            await self._pool.close()

    async def row(self, sql: str, *values: Any) -> asyncpg.Record | None:
        """The first row, or None."""
        try:
            return await self.pool.fetchrow(sql, *values)
        except UNREACHABLE as error:
            raise StoreUnavailable(f"PostgreSQL: {error!r}") from error

    async def rows(self, sql: str, *values: Any) -> list[asyncpg.Record]:
        """All rows."""
        try:
            return await self.pool.fetch(sql, *values)
        except UNREACHABLE as error:
            raise StoreUnavailable(f"PostgreSQL: {error!r}") from error

    @property
    def pool(self) -> asyncpg.Pool[asyncpg.Record]:
        """The open pool."""
        if self._pool is None:
            raise StoreUnavailable("the database is not open")
        return self._pool
