"""Both stores of one data folder, started side by side and stopped together."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from backend.embedded.data_folder import LOOPBACK, EmbeddedError, owned_folder
from backend.embedded.postgres import DATABASE, ROLE, EmbeddedPostgres
from backend.embedded.redis import EmbeddedRedis


@dataclass(frozen=True)
class Stores:
    """Where the stores are, and which of them we started (`PostgreSQL`, `Redis`)."""

    database_url: str
    redis_url: str
    started: tuple[str, ...]


def known_database_url(data_dir: Path) -> str:
    """URL of the PostgreSQL that was last started in `data_dir`, whether or not it still runs.

    Raises:
        EmbeddedError: none was ever started there, or its password cannot be read.
    """
    folder = data_dir.absolute()
    try:
        port = int((folder / "postgres.port").read_text())
        password = json.loads((folder / "postgres.json").read_text())[ROLE]
    except FileNotFoundError as error:
        raise EmbeddedError(
            f"No PostgreSQL of ours was started in the data folder {folder}.",
            "Set DATABASE_URL, or name the folder of the running service with OUTCROP_DATA_DIR.",
        ) from error
    except (OSError, ValueError, KeyError) as error:
        raise EmbeddedError(
            f"The password of the database in {folder} cannot be read: {error!r}.",
            "Run this as the user who runs the service, or set DATABASE_URL.",
        ) from error
    return f"postgresql://{ROLE}:{password}@{LOOPBACK}:{port}/{DATABASE}"


def known_redis_url(data_dir: Path) -> str | None:
    """URL of the Redis that was last started in `data_dir`, whether or not it still runs; None if none was."""
    folder = data_dir.absolute()
    try:
        port = int((folder / "redis.port").read_text())
        password = json.loads((folder / "redis.json").read_text())["password"]
    except (OSError, ValueError, KeyError):
        return None
    return f"redis://:{password}@{LOOPBACK}:{port}/0"


@asynccontextmanager
async def embedded_stores(
    data_dir: Path, *, database_url: str | None, redis_url: str | None, durable: bool = True
) -> AsyncIterator[Stores]:
    """Start what no URL is given for, in `data_dir`; stop it at the end of the block.

    Enter it in the main thread: on Linux the servers die with the thread that started them.

    Args:
        data_dir: Created if need be; held by this process alone while the block runs.
        database_url: `postgresql://…` of a running server, or None to start one.
        redis_url: `redis://…` of a running server, or None to start one.
        durable: False trades the safety of the data for speed, for throwaway instances.

    Raises:
        EmbeddedError: the folder is taken or not writable, or a server does not start; says what to do.
    """
    if database_url and redis_url:
        yield Stores(database_url, redis_url, ())
        return
    with owned_folder(data_dir, "stores") as folder:
        postgres = None if database_url else EmbeddedPostgres(folder, durable=durable)
        redis = None if redis_url else EmbeddedRedis(folder, durable=durable)
        servers = [server for server in (postgres, redis) if server]
        try:
            outcomes = await asyncio.gather(*(server.start() for server in servers), return_exceptions=True)
            for outcome in outcomes:
                if outcome is not None:
                    raise outcome
            names = (("PostgreSQL", postgres), ("Redis", redis))
            yield Stores(
                database_url=database_url or (postgres.url if postgres else ""),
                redis_url=redis_url or (redis.url if redis else ""),
                started=tuple(name for name, server in names if server),
            )
        finally:
            await asyncio.gather(*(server.stop() for server in servers))
