"""Isolated products to evaluate: each its own simulator, server process, database and Redis database.

One throwaway PostgreSQL and one Redis serve all stacks of a run; everything is gone when the run ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx

from backend.embedded.postgres import EmbeddedPostgres
from backend.embedded.process import Command, log_tail, spawn, stop, wait_until_ready
from backend.embedded.redis import EmbeddedRedis
from backend.embedded.simulator_process import CHECKOUT, Simulator, simulator
from backend.evaluation.run import Subject
from backend.evaluation.simulator_admin import JsonObject, SimulatorAdmin, admin_client
from backend.records.migrate import upgrade

START_TIMEOUT_S = 60.0
ADDRESS = re.compile(r"Outcrop is at (\S+)")


@dataclass(frozen=True)
class Patience:
    """How long a stack's product waits for its upstream, in seconds; short, so that faults cost little time."""

    connect_s: float = 1.0
    read_s: float = 0.8
    write_s: float = 1.2
    settle_s: float = 0.8

    def environment(self) -> dict[str, str]:
        """The ordinary configuration keys."""
        return {
            "PF360_CONNECT_TIMEOUT_SECONDS": str(self.connect_s),
            "PF360_READ_TIMEOUT_SECONDS": str(self.read_s),
            "PF360_WRITE_TIMEOUT_SECONDS": str(self.write_s),
            "PF360_SETTLE_SECONDS": str(self.settle_s),
        }

    @classmethod
    def beyond(cls, slowest_s: float) -> Patience:
        """Longer than an answer that is late but right."""
        return cls(read_s=max(cls.read_s, slowest_s + 0.5), write_s=max(cls.write_s, slowest_s + 0.5))


@dataclass(frozen=True)
class Stores:
    """The stores of a run: administration and schema."""

    folder: Path
    postgres_admin_url: str
    postgres_url: str  # holds the migrated schema and nothing else
    redis_url: str

    async def database(self, number: int) -> str:
        """A fresh database for one stack."""
        admin = await asyncpg.connect(self.postgres_admin_url)
        try:
            template, owner = urlsplit(self.postgres_url).path.lstrip("/"), urlsplit(self.postgres_url).username
            await admin.execute(f'CREATE DATABASE "stack_{number}" TEMPLATE "{template}" OWNER "{owner}"')
        finally:
            await admin.close()
        return urlsplit(self.postgres_url)._replace(path=f"/stack_{number}").geturl()

    def redis(self, number: int) -> str:
        """A Redis database of its own."""
        return urlsplit(self.redis_url)._replace(path=f"/{number}").geturl()


@asynccontextmanager
async def throwaway_stores(stacks: int) -> AsyncIterator[Stores]:
    """Start the stores of one run in a folder of their own; both are removed at the end."""
    folder = _throwaway_folder()
    postgres = EmbeddedPostgres(folder, durable=False)
    redis = EmbeddedRedis(folder, durable=False, databases=stacks + 1)
    try:
        await asyncio.gather(postgres.start(), redis.start())
        await upgrade(postgres.url)
        yield Stores(folder, postgres.admin_url, postgres.url, redis.url)
    finally:
        await asyncio.gather(postgres.stop(), redis.stop())
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def throwaway_database() -> AsyncIterator[str]:
    """URL of a PostgreSQL of its own with the newest schema, which is removed at the end."""
    folder = _throwaway_folder()
    postgres = EmbeddedPostgres(folder, durable=False)
    try:
        await postgres.start()
        await upgrade(postgres.url)
        yield postgres.url
    finally:
        await postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def stack(
    number: int, stores: Stores, patience: Patience, configured: Mapping[str, str], fixture: JsonObject | None
) -> AsyncIterator[Subject]:
    """One product of its own, ready to be talked to.

    Args:
        number: Tells the stacks of a run apart.
        stores: The run's stores.
        patience: Upstream time-outs of the product.
        configured: Environment of the product; what makes it a stack of the run's own is put on top.
        fixture: Seed data in place of the simulator's own: the product's locations and identities come from it, too.
    """
    folder = stores.folder / f"stack_{number}"
    async with simulator(folder, "fixture") as upstream:
        environment = {
            **configured,
            **patience.environment(),
            # A look for a conversation's effect would fall into a later conversation, and meet that one's faults.
            "EFFECT_LOOK_SECONDS": "86400",
            **_upstream(upstream),
            "DATABASE_URL": await stores.database(number),
            "REDIS_URL": stores.redis(number),
            "OUTCROP_DATA_DIR": str(folder),
            "HOST": "127.0.0.1",
            "PORT": "0",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(CHECKOUT), configured.get("PYTHONPATH")))),
            "PYTHONUNBUFFERED": "1",
        }
        if fixture is not None:
            (folder / "fixture.yaml").write_text(json.dumps({"fixture": fixture}), "utf-8")  # JSON is YAML
            environment["DIRECTORY_FILE"] = str(folder / "fixture.yaml")
        async with (
            _product(folder, environment) as url,
            subject(url, upstream.admin_url, upstream.admin_secret) as found,
        ):
            yield found


@asynccontextmanager
async def subject(url: str, admin_url: str, admin_secret: str) -> AsyncIterator[Subject]:
    """A product that runs at `url`, whose simulator can be steered."""
    api = httpx.AsyncClient(base_url=url, trust_env=False)
    async with api, admin_client(admin_url, admin_secret) as admin:
        yield Subject(api, SimulatorAdmin(admin))


@asynccontextmanager
async def _product(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[str]:
    """`outcrop serve` as a child, until the block ends; yields its URL."""
    program = "from backend.cli import main; main()"
    command = Command("outcrop", [sys.executable, "-c", program, "serve"], folder, environment)
    process = await spawn(command)
    url = ""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as client:

            async def answers() -> bool:
                nonlocal url
                told = ADDRESS.search(log_tail(command.log_file))
                if told is None:
                    return False
                url = told[1]
                try:
                    return (await client.get(f"{url}/readyz")).status_code == 200
                except httpx.HTTPError:
                    return False

            await wait_until_ready(command, process, answers, START_TIMEOUT_S)
        yield url
    finally:
        await stop(command, process)


def _throwaway_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="outcrop-eval-"))
    folder.chmod(0o711)  # the account that root's PostgreSQL runs as passes through
    for name in ("logs", "run"):
        (folder / name).mkdir(mode=0o700)
    return folder


def _upstream(upstream: Simulator) -> dict[str, str]:
    return {
        "PF360_API_URL": upstream.api_url,
        "PF360_ADMIN_URL": upstream.admin_url,
        "PF360_ADMIN_SECRET": upstream.admin_secret,
        "PF360_JWT_SECRET": upstream.jwt_secret,
        "PF360_CLOCK": "fixture",
    }
