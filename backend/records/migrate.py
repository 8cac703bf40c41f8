"""Brings a database to the newest schema."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from sqlalchemy import Connection

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0012"  # a test compares it with the newest file
# Two replicas that start at once must not both migrate; any constant will do.
LOCK = 0x0C7C209


async def upgrade(database_url: str) -> bool:
    """Apply what is missing; True when something was. One query, and no import of Alembic, when nothing is."""
    if await revision(database_url) == HEAD:
        return False
    await asyncio.to_thread(_upgrade, database_url)
    return True


async def revision(database_url: str) -> str | None:
    """The schema's revision; None for a database without one."""
    connection = await asyncpg.connect(database_url, timeout=10)
    try:
        if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
            return None
        found: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
        return found
    finally:
        await connection.close()


def _upgrade(database_url: str) -> None:
    asyncio.run(_run(database_url))


async def _run(database_url: str) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    url = database_url.replace("postgres://", "postgresql://", 1).replace("postgresql://", "postgresql+asyncpg://", 1)
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_apply)
            await connection.commit()
    finally:
        await engine.dispose()


def _apply(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import text

    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
