"""The knowledge bases of the configured database, or of the embedded one, which is started where none runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.settings import Settings
    from knowledge_base.bases import KnowledgeBases

EXIT_UNUSABLE, EXIT_STOPPED = 2, 130
CONNECT_S = 5.0
NO_REDIS = "redis://unused"


def with_bases(work: Callable[[KnowledgeBases, Settings], Awaitable[int]], *, make: bool = False) -> int:
    """Do some work with them, and with settings that name the database; the exit code.

    What is in the way is said in a line or two. `make`: begin a database where there has never been one.
    """
    import asyncpg

    from backend.cli.serve import complain
    from backend.embedded.data_folder import EmbeddedError
    from backend.knowledge import knowledge_bases
    from backend.settings import SettingsError, load_settings
    from knowledge_base.errors import KnowledgeError

    async def all_of_it() -> int:
        settings = load_settings()
        async with _database(settings, make) as url, knowledge_bases(settings, url) as bases:
            return await work(bases, settings.model_copy(update={"database_url": url}))

    try:
        return asyncio.run(all_of_it())
    except SettingsError as error:
        complain("The configuration cannot be used:", *str(error).splitlines())
    except (KnowledgeError, EmbeddedError) as error:
        complain(str(error))
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
        complain("The database has not the newest schema. `outcrop migrate` or a start of the service brings it.")
    except (KeyboardInterrupt, asyncio.CancelledError):
        complain("Stopped. What was stored is stored; the next run goes on with the rest.")
        return EXIT_STOPPED
    return EXIT_UNUSABLE


@asynccontextmanager
async def _database(settings: Settings, make: bool) -> AsyncIterator[str]:
    from backend.embedded.data_folder import EmbeddedError
    from backend.embedded.stores import embedded_stores, known_database_url
    from backend.records.migrate import upgrade

    if settings.database_url:
        yield settings.database_url
        return
    try:
        known = known_database_url(settings.outcrop_data_dir)
    except EmbeddedError:
        if not make:
            raise
    else:
        if await _answers(known):
            yield known
            return
    async with embedded_stores(settings.outcrop_data_dir, database_url=None, redis_url=NO_REDIS) as stores:
        await upgrade(stores.database_url)
        yield stores.database_url


async def _answers(url: str) -> bool:
    import asyncpg

    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return False
    await connection.close()
    return True
