"""A server as our child: tied to our life, watched, restarted when it dies, stopped in order, its log bounded."""

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import structlog

from backend.embedded.data_folder import EmbeddedError, write_private, writing_to

log = structlog.get_logger(__name__)

TIED_EXEC = str(Path(__file__).with_name("tied_exec.py"))
LOG_LIMIT_BYTES = 4 * 1024 * 1024
ASK_AGAIN_S = 1.0  # between requests to stop
LONGEST_PAUSE_S = 30.0  # between restarts of a server that keeps dying
# The server's own words in its log, and what to tell the person about them.
KNOWN_CAUSES = {
    "No space left on device": "Free some disk space there, or set OUTCROP_DATA_DIR to a folder on another disk.",
    "Permission denied": "Make the data folder writable for this user, or set OUTCROP_DATA_DIR to one that is.",
    "Read-only file system": "Set OUTCROP_DATA_DIR to a folder on a writable disk.",
    "incompatible with server": "The data was written by another major version: dump it with that, load it here.",
    "Can't handle RDB format": "The data was written by a newer Redis: put that one on PATH.",
    "could not map anonymous shared memory": "There is too little memory: stop programs, or enlarge the container.",
    "could not resize shared memory": "There is too little shared memory: start the container with --shm-size=256m.",
}


@dataclass(frozen=True)
class Account:
    """An operating system user that a server runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Command:
    """How one server is started and asked to stop."""

    name: str
    argv: Sequence[str]
    data_dir: Path
    env: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 15.0
    account: Account | None = None

    @property
    def log_file(self) -> Path:
        """Where its output goes."""
        return self.data_dir / "logs" / f"{self.name}.log"

    @property
    def record(self) -> Path:
        """Which process it is, for a later owner to find."""
        return self.data_dir / "run" / f"{self.name}.json"

    def tied_argv(self) -> list[str]:
        """The command behind `tied_exec.py`."""
        uid, gid = (self.account.uid, self.account.gid) if self.account else (-1, -1)
        parent = [str(os.getpid()), str(int(self.stop_signal)), str(uid), str(gid)]
        return [sys.executable, "-I", "-S", TIED_EXEC, *parent, *self.argv]


async def spawn(command: Command, *, stdout: int | None = None) -> Process:
    """Start it in a session of its own, so that Ctrl-C reaches us alone and we stop things in order.

    Call it from the thread that lives as long as the servers: on Linux the tie is to the thread that forks.
    """
    cap_log(command.log_file)
    with writing_to(command.data_dir), command.log_file.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command.tied_argv(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output if stdout is None else stdout,
            stderr=output,
            cwd="/",
            env=dict(command.env),
            start_new_session=True,
        )
    with suppress(psutil.NoSuchProcess):
        started_at = psutil.Process(process.pid).create_time()
        write_private(command.record, json.dumps({"pid": process.pid, "started_at": started_at}))
    return process


async def run_once(command: Command) -> tuple[int, str]:
    """Run a short command to its end: exit code and output. Cancelled, or orphaned, it is killed."""
    process = await asyncio.create_subprocess_exec(
        *replace(command, stop_signal=signal.SIGKILL).tied_argv(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd="/",
        env=dict(command.env),
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    return process.returncode or 0, output.decode(errors="replace")


async def wait_until_ready(
    command: Command, process: Process, probe: Callable[[], Awaitable[bool]], timeout_s: float = 60.0
) -> None:
    """Poll `probe` until it says yes.

    Raises:
        EmbeddedError: the process ended first, or the time is up; the message quotes the end of its log.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = 0.005
    while not await probe():
        if process.returncode is not None:
            raise failure(command, f"{command.name} ended with code {process.returncode} while starting")
        if time.monotonic() > deadline:
            raise failure(command, f"{command.name} was not ready after {timeout_s:.0f} s")
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.2)


def failure(command: Command, what: str, output: str | None = None) -> EmbeddedError:
    """An error that quotes the server's last words and, where they are known, says what to do."""
    text = log_tail(command.log_file) if output is None else output
    last_words = " | ".join(line.strip() for line in text.splitlines()[-4:] if line.strip())
    fix = next((fix for words, fix in KNOWN_CAUSES.items() if words in text), f"See {command.log_file}.")
    return EmbeddedError(f"{what}: {last_words or 'it said nothing'}.", fix)


def log_tail(path: Path, size_bytes: int = 4096) -> str:
    """The end of a log, empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size_bytes))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def cap_log(path: Path) -> None:
    """Keep a log bounded while its writer goes on: move what is there to `.1` and empty it.

    Writers append, so they go on at the new beginning; a line written in between may be lost.
    """
    if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
        shutil.copyfile(path, path.with_name(path.name + ".1"))
        os.truncate(path, 0)


async def stop(command: Command, process: Process) -> None:
    """Ask it to stop, and kill it when it does not in time."""
    if process.returncode is None:
        # Not asyncio.timeout: in a task cancelled before, an early Python 3.11 cancels again instead of timing out.
        ended = asyncio.ensure_future(process.wait())
        deadline = time.monotonic() + command.stop_timeout_s
        while not ended.done() and (left_s := deadline - time.monotonic()) > 0:
            # Once is not enough: an interpreter that is just starting swallows what comes at the wrong moment.
            # Not process.send_signal: it reaps a child that has just ended, and asyncio then misses its exit code.
            with suppress(ProcessLookupError):
                os.kill(process.pid, command.stop_signal)
            await asyncio.wait({ended}, timeout=min(left_s, ASK_AGAIN_S))
        if not ended.done():
            log.warning("embedded_server_killed", server=command.name, after_s=command.stop_timeout_s)
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        await ended
    command.record.unlink(missing_ok=True)


async def stop_leftover(command: Command) -> None:
    """Stop the server that a killed owner of this data folder left running, if there is one.

    The recorded pid counts only with the recorded start time: pids are used again.
    """
    try:
        record = json.loads(command.record.read_text())
        process = psutil.Process(record["pid"])
        if abs(process.create_time() - record["started_at"]) > 2.0 or process.status() == psutil.STATUS_ZOMBIE:
            return
        log.warning("embedded_server_left_over", server=command.name, pid=process.pid)
        process.send_signal(command.stop_signal)
        deadline = time.monotonic() + command.stop_timeout_s
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                process.kill()
            await asyncio.sleep(0.02)
    except (FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess):
        return


class Server:
    """One running server. It is started again when it dies, so that a crash of the store is a pause and not an end."""

    def __init__(self, command: Command, launch: Callable[[], Awaitable[Process]]) -> None:
        """`launch` starts the process and returns when it is ready."""
        self.command = command
        self._launch = launch
        self._process: Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The process id of the running server, None while there is none."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Stop what an earlier owner left, launch, and watch from then on."""
        await stop_leftover(self.command)
        self._process = await self._launch()
        self._watch = asyncio.create_task(self._keep_running(), name=f"watch-{self.command.name}")

    async def stop(self) -> None:
        """Stop it for good. Safe to call when it never started."""
        # A client library may swallow the cancellation in the middle of a restart; the flag ends the watch then.
        self._stopping = True
        if self._watch:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        if self._process:
            await stop(self.command, self._process)

    async def _keep_running(self) -> None:
        deaths: list[float] = []
        while self._process and not self._stopping:
            code = await self._wait_for_end(self._process)
            deaths = [at for at in deaths if time.monotonic() - at < 60.0]
            pause_s = min(0.5 * 2 ** len(deaths), LONGEST_PAUSE_S) if deaths else 0.0
            deaths.append(time.monotonic())
            log.warning("embedded_server_died", server=self.command.name, code=code, restart_in_s=pause_s)
            await asyncio.sleep(pause_s)
            try:
                self._process = await self._launch()
                log.info("embedded_server_restarted", server=self.command.name, pid=self._process.pid)
            except EmbeddedError as error:
                log.error("embedded_server_not_restarted", server=self.command.name, reason=str(error))

    async def _wait_for_end(self, process: Process) -> int:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(30.0):
                    return await process.wait()
            cap_log(self.command.log_file)


@asynccontextmanager
async def child_process(command: Command, ready_timeout_s: float = 15.0) -> AsyncIterator[dict[str, object]]:
    """Run a program that prints one JSON object as its first line when it is ready; yields that object.

    The rest of its output goes to its log. It is started again when it dies, so that what it says must hold for its
    successors too (a fixed port); it is stopped at the end of the block, and dies with us.

    Raises:
        EmbeddedError: it ended, was silent, or printed something else in place of `{"ready": true, …}`.
    """
    drains: list[asyncio.Task[None]] = []
    said: dict[str, object] = {}

    async def launch() -> Process:
        process = await spawn(command, stdout=PIPE)
        try:
            assert process.stdout is not None
            async with asyncio.timeout(ready_timeout_s):
                said.update(_ready(json.loads(await process.stdout.readline())))
        except (TimeoutError, ValueError) as error:
            await stop(command, process)
            raise failure(command, f"{command.name} did not say that it is ready") from error
        except BaseException:  # cancelled, for instance by Ctrl-C: leave nothing behind
            await stop(command, process)
            raise
        drains[:] = [task for task in drains if not task.done()]
        drains.append(asyncio.create_task(_to_log(process.stdout, command.log_file)))
        return process

    server = Server(command, launch)
    try:
        await server.start()
        yield said
    finally:
        await server.stop()
        await asyncio.gather(*drains)


def _ready(said: object) -> dict[str, object]:
    if not isinstance(said, dict) or said.get("ready") is not True:
        raise ValueError("not a ready line")
    return said


async def _to_log(stream: asyncio.StreamReader, log_file: Path) -> None:
    while chunk := await stream.read(65_536):
        with log_file.open("ab") as file:
            file.write(chunk)
        cap_log(log_file)
