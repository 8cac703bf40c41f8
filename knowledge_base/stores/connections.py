"""Connections to PostgreSQL as the stores use them, and what it means when there is none."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias
from weakref import WeakKeyDictionary

import asyncpg

from knowledge_base.errors import StoreUnreachable

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

# Refusals to connect among them: a wrong password, user or name of a database.
UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
# Statements that load, merge or build take as long as they take; the pool's own limit is meant for those of a turn.
UNHURRIED_S = 4 * 3600.0
# For a free connection of the pool.
ACQUIRE_S = 30.0
# First half of advisory locks; the second is the base's number.
WRITERS = 0x0C7C20A


class Writers:
    """Of a pool: who waits for a lock in the database holds a connection, and readers need some too."""

    def __init__(self, connections: int) -> None:
        self._all = asyncio.Semaphore(max(1, connections // 2))
        self._of_base: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def one(self, base: int) -> AsyncIterator[None]:
        """One at a time for each base, and up to half of the connections in all."""
        async with self._of_base[base], self._all:
            yield


# Of the pools of a loop, which is one in earnest, by their size.
_writers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, Writers]] = WeakKeyDictionary()


def _writers_of(pool: Pool) -> Writers:
    size = pool.get_max_size()
    return _writers.setdefault(asyncio.get_running_loop(), {}).setdefault(size, Writers(size))


@contextmanager
def reaching() -> Iterator[None]:
    """What asyncpg raises without a server becomes `StoreUnreachable`."""
    try:
        yield
    except asyncpg.UndefinedTableError as error:
        if "kb_bases" not in str(error):
            raise
        raise StoreUnreachable("PostgreSQL has no tables of knowledge bases yet: start outcrop once") from error
    except asyncpg.InterfaceError as error:
        if isinstance(error, ValueError):  # a parameter of ours that asyncpg cannot encode
            raise
        raise StoreUnreachable(f"PostgreSQL does not answer ({error}): check DATABASE_URL") from error
    except UNREACHABLE as error:
        # Its text may hold the address, and with it who connects.
        raise StoreUnreachable(f"PostgreSQL does not answer ({type(error).__name__}): check DATABASE_URL") from error


@asynccontextmanager
async def reading(pool: Pool) -> AsyncIterator[Connection]:
    """A connection for statements that stand each for itself."""
    with reaching():
        async with pool.acquire(timeout=ACQUIRE_S) as connection:
            yield connection


@asynccontextmanager
async def snapshot(pool: Pool) -> AsyncIterator[Connection]:
    """A connection whose statements all see the same moment, and change nothing."""
    with reaching():
        async with (
            pool.acquire(timeout=ACQUIRE_S) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection


@asynccontextmanager
async def writing(pool: Pool, base: int) -> AsyncIterator[Connection]:
    """A transaction that is the only one to write to this base; others wait for it. Readers do not."""
    with reaching():
        async with _writers_of(pool).one(base), pool.acquire(timeout=ACQUIRE_S) as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1, $2)", WRITERS, base, timeout=UNHURRIED_S)
            yield connection
