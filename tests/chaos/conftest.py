"""Fleets over one executor, the simulator that outlives them, and the stores that they share."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest

from tests.chaos.fleet import Fleet, FunctionService, agent_on_functions
from tests.chaos.scene import Surroundings
from tests.conftest import TemplateDatabase
from tests.integration.outside_simulator import OutsideSimulator
from tests.throwaway_stores import StoreUrls

PATIENCE = {
    "TURN_LEASE_SECONDS": "4",
    "EFFECT_LOOK_SECONDS": "1",
    "PF360_SETTLE_SECONDS": "1.5",
    "PF360_READ_TIMEOUT_SECONDS": "5",
    "PF360_WRITE_TIMEOUT_SECONDS": "3",
}
FUNCTION_TIMEOUT_S = 8
REDIS_DATABASE = 63  # no test worker's
Started = tuple[Fleet, str]  # and the URL of its database


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="outcrop-kill-"))
    made.chmod(0o711)  # the account that root's PostgreSQL runs as passes through
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def upstream() -> Iterator[OutsideSimulator]:
    with OutsideSimulator() as running:
        yield running


@pytest.fixture
def simulator(upstream: OutsideSimulator) -> OutsideSimulator:
    upstream.reset()
    return upstream


@pytest.fixture(scope="session")
def function_service(folder: Path, upstream: OutsideSimulator) -> Iterator[FunctionService]:
    """Functions that outlive the servers that call them, and are patient with upstream."""
    service = FunctionService(folder, {**upstream.environment, **PATIENCE, "PF360_WRITE_TIMEOUT_SECONDS": "20"})
    yield service
    service.close()


@pytest.fixture(scope="session")
def start_fleet(
    folder: Path,
    upstream: OutsideSimulator,
    function_service: FunctionService,
    template_database: TemplateDatabase,
    store_urls: StoreUrls,
) -> Iterator[Callable[[str], Started]]:
    """Gives the fleet over an executor: `in_process`, functions of each server's own (`lambda`) or `elsewhere`.

    There is one at a time, with a database of its own: a server takes over whatever turn it finds. It stays for as long
    as tests ask for the same executor.
    """
    now: dict[str, Started] = {}
    with ExitStack() as stack:

        def start(executor: str) -> Started:
            if executor not in now:
                now.clear()
                stack.close()
                name, url = template_database.copy()
                stack.callback(template_database.drop, name)
                more = {}
                if executor != "in_process":
                    endpoint = function_service.url if executor == "elsewhere" else None
                    more = agent_on_functions(folder, timeout_s=FUNCTION_TIMEOUT_S, endpoint_url=endpoint)
                stores = {"DATABASE_URL": url, "REDIS_URL": f"{store_urls.redis.rsplit('/', 1)[0]}/{REDIS_DATABASE}"}
                keys = {**stores, "OUTCROP_DATA_DIR": str(folder / "unused"), **upstream.environment, **PATIENCE}
                now[executor] = stack.enter_context(Fleet(folder, {**keys, **more})), url
            return now[executor]

        yield start


@pytest.fixture
async def around(
    start_fleet: Callable[[str], Started], executor: str, simulator: OutsideSimulator
) -> AsyncIterator[Surroundings]:
    """Servers that are ready, over the executor that the test names."""
    fleet, database_url = await asyncio.to_thread(start_fleet, executor)
    await fleet.ready()
    connection = await asyncpg.connect(database_url)
    yield Surroundings(fleet, simulator, connection, database_url)
    await connection.close()
