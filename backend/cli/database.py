"""The configured database, or the one that `outcrop serve` runs in the data folder, for commands that need no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.records.database import Database
    from backend.settings import Settings


def with_database(work: Callable[[Database, Settings], Awaitable[int]]) -> int:
    """Do some work with it; the exit code. What is in the way is said in a line or two."""
    import asyncpg

    from agent.errors import StoreUnavailable
    from backend.cli.serve import complain
    from backend.embedded.data_folder import EmbeddedError
    from backend.records.effects import EffectRefusal
    from backend.settings import SettingsError, load_settings

    async def all_of_it() -> int:
        settings = load_settings()
        async with _database(settings) as db:
            return await work(db, settings)

    try:
        return asyncio.run(all_of_it())
    except SettingsError as error:
        return complain("The configuration cannot be used:", *str(error).splitlines())
    except (EffectRefusal, EmbeddedError) as error:
        return complain(str(error))
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
        return complain(
            "The database has not the newest schema. `outcrop migrate` or a start of the service brings it."
        )
    except StoreUnavailable as error:
        return complain(
            f"PostgreSQL cannot be used: {error}.",
            "Start the service (`outcrop serve`), or set DATABASE_URL; `outcrop doctor` looks closer.",
        )


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    from backend.embedded.stores import known_database_url
    from backend.records.database import Database

    db = Database(settings.database_url or known_database_url(settings.outcrop_data_dir), max_connections=1)
    await db.open()
    try:
        yield db
    finally:
        await db.close()
