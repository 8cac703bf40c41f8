"""One throwaway PostgreSQL and Redis for a whole test run, started when the first test asks.

The pytest controller runs `python -m tests.throwaway_stores FOLDER` and holds its standard input. The process sleeps
until a worker writes into the pipe `wanted`, starts the stores, leaves their URLs in `urls.json`, and stops them when
its standard input closes, that is, when the controller ends, however it ends. A run without such tests starts nothing.
"""

import asyncio
import json
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 90.0
REDIS_DATABASES = 64


@dataclass(frozen=True)
class StoreUrls:
    """Where the run's stores are: a superuser URL, the application role's name and password in `database`, Redis."""

    admin: str
    database: str
    redis: str


def start(folder: Path) -> "subprocess.Popen[bytes]":
    """Start the sleeping process; closing its stdin ends it and what it started."""
    os.mkfifo(folder / "wanted")
    with (folder / "stores.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.throwaway_stores", str(folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=Path(__file__).parents[1],
            start_new_session=True,
        )


def urls(folder: Path) -> StoreUrls:
    """Wake the process and wait for the stores; may be called by any number of workers."""
    deadline = time.monotonic() + START_TIMEOUT_S
    answer = folder / "urls.json"
    while not answer.exists():
        _wake(folder)
        if time.monotonic() > deadline:
            raise RuntimeError(f"the throwaway stores did not start:\n{(folder / 'stores.log').read_text()[-4000:]}")
        time.sleep(0.02)
    return StoreUrls(**json.loads(answer.read_text()))


def _wake(folder: Path) -> None:
    try:
        pipe = os.open(folder / "wanted", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # nobody reads: the process is not there yet, or awake already
        return
    os.write(pipe, b"!")
    os.close(pipe)


def _wanted(folder: Path) -> bool:
    """Sleep until the stores are wanted; False when the controller ended first."""
    pipe = os.open(folder / "wanted", os.O_RDONLY | os.O_NONBLOCK)
    try:
        ready, _, _ = select.select([0, pipe], [], [])
        return pipe in ready
    finally:
        os.close(pipe)


async def _serve(folder: Path) -> None:
    from backend.embedded.data_folder import owned_folder
    from backend.embedded.postgres import EmbeddedPostgres
    from backend.embedded.redis import EmbeddedRedis

    with owned_folder(folder / "data", "stores") as data:
        postgres = EmbeddedPostgres(data, durable=False)
        redis = EmbeddedRedis(data, durable=False, databases=REDIS_DATABASES)
        try:
            await asyncio.gather(postgres.start(), redis.start())
            draft = folder / "urls.draft"
            draft.write_text(json.dumps({"admin": postgres.admin_url, "database": postgres.url, "redis": redis.url}))
            draft.rename(folder / "urls.json")
            await asyncio.to_thread(sys.stdin.buffer.read)
        finally:
            await asyncio.gather(postgres.stop(), redis.stop())


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    if _wanted(directory):
        asyncio.run(_serve(directory))
