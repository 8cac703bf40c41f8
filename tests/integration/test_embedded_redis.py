"""The embedded Redis: password, crash, restart, and which server is chosen."""

import asyncio
import json
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import redis.asyncio as redis_client
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

from backend.embedded import EmbeddedError, embedded_stores
from backend.embedded import redis as embedded_redis
from backend.embedded.data_folder import owned_folder
from backend.embedded.process import spawn

NOT_CONTACTED = "postgresql://127.0.0.1:1/none"  # a given URL: no PostgreSQL is started


@asynccontextmanager
async def only_redis(data_dir: Path) -> AsyncIterator[str]:
    async with embedded_stores(data_dir, database_url=NOT_CONTACTED, redis_url=None) as stores:
        assert stores.started == ("Redis",)
        yield stores.redis_url


async def say(url: str, *command: str) -> object:
    """One command; retries while a killed server comes back."""
    for _ in range(200):
        client = redis_client.Redis.from_url(url, decode_responses=True)
        try:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]
        except AuthenticationError:
            raise
        except RedisConnectionError:
            await asyncio.sleep(0.05)
        finally:
            await client.aclose()
    raise AssertionError("the server did not come back")


def server_pid(data_dir: Path) -> int:
    return int(json.loads((data_dir / "run" / "redis.json").read_text())["pid"])


async def test_only_loopback_only_with_the_password(server_dir: Path) -> None:
    async with only_redis(server_dir) as url:
        server = psutil.Process(server_pid(server_dir))
        listening = [c for c in server.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert [c.laddr.ip for c in listening] == ["127.0.0.1"]
        with pytest.raises(AuthenticationError):
            await say("redis://" + url.split("@")[1], "GET", "x")
        for secret in ("redis.json", "redis.conf"):
            assert stat.S_IMODE((server_dir / secret).stat().st_mode) == 0o600


async def test_scripts_and_streams(server_dir: Path) -> None:
    """What the sessions use: Lua and streams; and no graph module."""
    async with only_redis(server_dir) as url:
        assert await say(url, "EVAL", "return redis.call('INCRBY', KEYS[1], 2)", "1", "n") == 2
        assert await say(url, "XADD", "s", "1-1", "k", "v") == "1-1"
        assert "graph" not in str(await say(url, "MODULE", "LIST"))


async def test_data_survives_a_restart(server_dir: Path) -> None:
    async with only_redis(server_dir) as url:
        await say(url, "SET", "answer", "42")
        pid = server_pid(server_dir)
    assert not psutil.pid_exists(pid)
    async with only_redis(server_dir) as again:
        assert again == url
        assert await say(url, "GET", "answer") == "42"


async def test_killed_server_comes_back_with_its_data(server_dir: Path) -> None:
    """kill -9: started again under the same URL, with all that was synced."""
    async with only_redis(server_dir) as url:
        await say(url, "SET", "answer", "42")
        await say(url, "WAITAOF", "1", "0", "5000")  # synced, not merely within the second that may be lost
        os.kill(server_pid(server_dir), signal.SIGKILL)
        assert await say(url, "GET", "answer") == "42"


async def test_a_torn_append_only_file(server_dir: Path) -> None:
    """The machine stopped in the middle of a write: the torn command is dropped, the rest is there."""
    async with only_redis(server_dir) as url:
        await say(url, "SET", "answer", "42")
    (journal,) = (server_dir / "redis" / "appendonlydir").glob("*.incr.aof")
    with journal.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$6\r\nans")
    async with only_redis(server_dir) as url:
        assert await say(url, "GET", "answer") == "42"


async def test_a_leftover_server_is_stopped_at_the_next_start(server_dir: Path) -> None:
    async with only_redis(server_dir) as url:
        pass
    with owned_folder(server_dir, "stores") as folder:
        server = embedded_redis.EmbeddedRedis(folder)
        await server.start()
        assert server._command is not None
        await server.stop()
        leftover = await spawn(server._command)
        assert await say(url, "PING")
    async with only_redis(server_dir) as url:
        assert await asyncio.wait_for(leftover.wait(), 5) == 0
        assert await say(url, "PING")


async def test_a_taken_port_is_avoided(server_dir: Path) -> None:
    async with only_redis(server_dir) as first:
        pass
    with socket.create_server(("127.0.0.1", int((server_dir / "redis.port").read_text()))):
        async with only_redis(server_dir) as second:
            assert second != first
            assert await say(second, "PING")


async def test_a_server_that_cannot_start_says_why(server_dir: Path) -> None:
    """The server's last words reach the person."""
    (server_dir / "redis").mkdir()
    (server_dir / "redis" / "appendonlydir").write_text("not a folder")
    with pytest.raises(EmbeddedError, match=r"redis ended with code 1 while starting: .*appendonlydir"):
        async with only_redis(server_dir):
            pass


def a_server_on_path(folder: Path, name: str, version: str) -> None:
    folder.mkdir(exist_ok=True)
    packaged = embedded_redis._binary()
    script = folder / name
    script.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "Redis server v={version}" && exit\nexec {packaged} "$@"\n'
    )
    script.chmod(0o755)


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
async def test_a_server_on_path_is_preferred(server_dir: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    a_server_on_path(server_dir / "bin", name, "7.0.15")
    monkeypatch.setenv("PATH", f"{server_dir / 'bin'}:/usr/bin:/bin")
    assert embedded_redis._binary() == str(server_dir / "bin" / name)
    async with only_redis(server_dir / "data") as url:
        assert await say(url, "PING")


def test_an_old_server_on_path_is_passed_over(server_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_server_on_path(server_dir / "bin", "redis-server", "6.0.16")
    monkeypatch.setenv("PATH", f"{server_dir / 'bin'}:/usr/bin:/bin")
    assert embedded_redis._binary() != str(server_dir / "bin" / "redis-server")


def test_no_server_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(embedded_redis, "PACKAGE", "no_such_package")
    with pytest.raises(EmbeddedError, match="apt install redis-server"):
        embedded_redis._binary()
