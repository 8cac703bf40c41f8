"""The data folder: who owns it, what is remembered in it (passwords, ports), and what to say when it cannot be used.

.outcrop/
    stores.lock, simulator.lock    held (flock) by the process that runs the servers; its pid inside
    *.json                         generated passwords and remembered ports, mode 0600
    logs/                          one bounded log per server
    run/                           pid and start time of each server, to find what a killed owner left behind
    postgres/, redis/              the data
"""

import errno
import fcntl
import json
import os
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

LOOPBACK = "127.0.0.1"
# Below the ports that systems hand out for outgoing connections, so that a remembered one is rarely taken.
PORT_RANGE = range(20_000, 30_000)


class EmbeddedError(Exception):
    """An embedded server cannot run here; the message says why and what to do about it."""

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__(f"{cause} {fix}")
        self.cause = cause
        self.fix = fix


FIXES = {
    errno.ENOSPC: "Free some disk space there, or set OUTCROP_DATA_DIR to a folder on another disk.",
    errno.EDQUOT: "The disk quota is used up: free some space, or set OUTCROP_DATA_DIR to another folder.",
}
OTHER_FOLDER = "Make it writable for this user, or set OUTCROP_DATA_DIR to a folder that is."


@contextmanager
def owned_folder(data_dir: Path, role: str) -> Iterator[Path]:
    """Create the data folder if need be and hold it, as the one process of this `role`, until the block ends.

    Raises:
        EmbeddedError: another process holds it (its pid is named), or it cannot be written to.
    """
    data_dir = data_dir.absolute()
    with writing_to(data_dir):
        _create(data_dir)
        lock = os.open(data_dir / f"{role}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(data_dir, os.pread(lock, 20, 0)) from None
        with writing_to(data_dir):
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield data_dir
    finally:
        os.close(lock)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn a failure to write below `folder` into an `EmbeddedError` that names the folder and the way out."""
    try:
        yield
    except OSError as error:
        fix = FIXES.get(error.errno or 0, OTHER_FOLDER)
        raise EmbeddedError(f"Cannot write to the data folder {folder}: {error.strerror or error}.", fix) from error


def _create(data_dir: Path) -> None:
    if not data_dir.exists():
        data_dir.mkdir(parents=True)
        # Nothing in it can be listed or read by others; root's Postgres runs as another user and must pass through.
        data_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)
    if not data_dir.is_dir():
        raise EmbeddedError(f"{data_dir} is not a folder.", "Set OUTCROP_DATA_DIR to one.")
    _refuse_other_owner(data_dir)
    for name in ("logs", "run"):
        (data_dir / name).mkdir(mode=0o700, exist_ok=True)


def _refuse_other_owner(data_dir: Path) -> None:
    """Root could write to anybody's data folder, and its owner could never start it again."""
    owner = (data_dir / "logs").stat().st_uid if (data_dir / "logs").exists() else os.geteuid()
    if owner != os.geteuid():
        raise EmbeddedError(
            f"The data folder {data_dir} belongs to user {owner}, and this process runs as user {os.geteuid()}.",
            "Start it as the user who made it, or set OUTCROP_DATA_DIR to a folder of your own.",
        )


def _in_use(data_dir: Path, holder: bytes) -> EmbeddedError:
    pid = holder.decode(errors="replace").strip()
    command = ""
    if pid.isdigit() and psutil.pid_exists(int(pid)):
        try:
            command = f" ({' '.join(psutil.Process(int(pid)).cmdline())[:120]})"
        except psutil.Error:  # it ended just now, or is not ours to look at: the pid alone must do
            command = ""
    return EmbeddedError(
        f"The data folder {data_dir} is in use by process {pid or 'unknown'}{command}.",
        "Stop that process, or set OUTCROP_DATA_DIR to another folder to run a second one beside it.",
    )


def remembered(path: Path, make: Callable[[], dict[str, str]]) -> dict[str, str]:
    """What `path` (JSON, mode 0600) holds; what of `make()` is missing there is added and kept."""
    known: dict[str, str] = {}
    if path.exists():
        try:
            known = json.loads(path.read_text())
        except ValueError as error:
            raise EmbeddedError(
                f"{path} is damaged: {error}.", "Restore it from a backup; it holds the passwords."
            ) from error
    complete = {**make(), **known}
    if complete != known:
        write_private(path, json.dumps(complete))
    return complete


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, whole or not at all."""
    draft = path.with_name(path.name + ".draft")
    with writing_to(path.parent):
        draft.unlink(missing_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is not in the way
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def choose_port(data_dir: Path, name: str) -> int:
    """The port this server had last time if it is still free, else another free one, which is then remembered."""
    memory = data_dir / f"{name}.port"
    if memory.exists() and (text := memory.read_text()).isdigit() and is_free(int(text)):
        return int(text)
    for port in random.sample(PORT_RANGE, 100):
        if is_free(port):
            write_private(memory, str(port))
            return port
    raise EmbeddedError(
        f"No free port for {name} between {PORT_RANGE.start} and {PORT_RANGE.stop}.", "Stop some servers."
    )
