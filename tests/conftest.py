"""Fixtures for every test: a database and a Redis of its own, on servers shared by the whole run.

`database_url` is a fresh copy of a template that holds the migrated schema; `redis_url` an emptied Redis database that
belongs to this worker. Both are plain `postgresql://` and `redis://` URLs, good for sync and async tests and for child
processes. Nothing may connect beyond loopback.
"""

import asyncio
import inspect
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
import redis

from tests import throwaway_stores, yaml_once
from tests.loopback import refuse_beyond_loopback
from tests.throwaway_stores import REDIS_DATABASES, StoreUrls

if TYPE_CHECKING:
    from tests.doubles.model_service import ModelService

T = TypeVar("T")
FOLDER_VARIABLE = "OUTCROP_TEST_STORES"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC_BROWSERS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
CONTROLLER: dict[str, "subprocess.Popen[bytes]"] = {}

refuse_beyond_loopback()
yaml_once.install()


def pytest_configure(config: pytest.Config) -> None:
    """In the controller (or the only process): the sleeping process that can start the stores."""
    if hasattr(config, "workerinput"):
        return
    # Short and directly below /tmp, so that the account root's PostgreSQL runs as can reach it.
    folder = Path(tempfile.mkdtemp(prefix="outcrop-test-"))
    folder.chmod(0o711)
    CONTROLLER[str(folder)] = throwaway_stores.start(folder)
    os.environ[FOLDER_VARIABLE] = str(folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what the run started and remove its data."""
    for folder, process in CONTROLLER.items():
        if process.stdin:
            process.stdin.close()
        process.wait(timeout=30)
        shutil.rmtree(folder)
    CONTROLLER.clear()


class Background:
    """An event loop in a thread, so that sync fixtures can keep one asyncpg connection for the whole session."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=120)

    def close(self) -> None:
        """End the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class TemplateDatabase:
    """The migrated schema of this worker, and copies of it."""

    def __init__(self, stores: StoreUrls, worker: str) -> None:
        self._stores = stores
        self._background = Background()
        self._owner = urlsplit(stores.database).username
        self._template = f"template_{worker}"
        self._admin = self._background.run(asyncpg.connect(stores.admin, ssl=False))
        self._execute(f'CREATE DATABASE "{self._template}" OWNER {self._owner}')
        self._migrate()

    def copy(self) -> tuple[str, str]:
        """Name and URL of a fresh copy."""
        name = f"test_{uuid4().hex[:12]}"
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{self._template}" OWNER {self._owner} STRATEGY FILE_COPY')
        return name, self._url(name)

    def drop(self, name: str) -> None:
        """Remove a copy, whoever is still connected to it."""
        self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def close(self) -> None:
        """Close the session's connection."""
        self._background.run(self._admin.close())
        self._background.close()

    def _migrate(self) -> None:
        from backend.records.migrate import upgrade

        outcome = upgrade(self._url(self._template))
        if inspect.isawaitable(outcome):
            self._background.run(_awaited(outcome))

    def _url(self, name: str) -> str:
        return self._stores.database.rsplit("/", 1)[0] + f"/{name}"

    def _execute(self, statement: str) -> None:
        self._background.run(self._admin.execute(statement))


async def _awaited(outcome: Any) -> None:
    await outcome


@pytest.fixture(scope="session")
def store_urls() -> StoreUrls:
    """The run's PostgreSQL and Redis; asking for it starts them."""
    return throwaway_stores.urls(Path(os.environ[FOLDER_VARIABLE]))


@pytest.fixture(scope="session")
def template_database(store_urls: StoreUrls, worker_name: str) -> Iterator[TemplateDatabase]:
    """The migrated template of this worker."""
    template = TemplateDatabase(store_urls, worker_name)
    yield template
    template.close()


@pytest.fixture(scope="session")
def worker_name(request: pytest.FixtureRequest) -> str:
    """`gw0`, `gw1`, …, or `main` without xdist."""
    worker: dict[str, str] = getattr(request.config, "workerinput", {})
    return worker.get("workerid", "main")


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The installed browser. There is no skipping: without one the test fails and says how to get one."""
    found = os.environ.get("CHROMIUM_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)
    found = found or next((path for path in MAC_BROWSERS if Path(path).exists()), None)
    if not found:
        pytest.fail(
            "No Chromium found. Install it: apt-get install -y chromium (Debian), brew install --cask chromium "
            "(macOS), or name one with CHROMIUM_PATH.",
            pytrace=False,
        )
    return found


@pytest.fixture
def database_url(template_database: TemplateDatabase) -> Iterator[str]:
    """`postgresql://…` of a database of this test's own, with the schema and no rows."""
    name, url = template_database.copy()
    yield url
    template_database.drop(name)


@pytest.fixture
def redis_url(store_urls: StoreUrls, worker_name: str) -> Iterator[str]:
    """`redis://…` of this worker's database, emptied before and after the test."""
    number = int(worker_name.removeprefix("gw")) + 1 if worker_name.startswith("gw") else 0
    url = store_urls.redis.rsplit("/", 1)[0] + f"/{number % REDIS_DATABASES}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()


@pytest.fixture(scope="session")
def model_service_port() -> Iterator[int]:
    """The scripted model server of this worker, started when the first test asks for it."""
    from tests.doubles.model_service import model_service_process

    with model_service_process() as port:
        yield port


@pytest_asyncio.fixture
async def models(model_service_port: int) -> AsyncIterator["ModelService"]:
    """The scripted model server; `await models.lane(...)` is a test's own part of it."""
    from tests.doubles.model_service import connected

    async with connected(model_service_port) as service:
        yield service
