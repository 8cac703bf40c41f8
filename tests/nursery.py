"""Forks `outcrop` commands from a process that has imported everything already, which is most of a command's start.

The process reads one `Order` a line as JSON, answers each with the pid of a process that runs it as `python -m backend`
would, and ends with its standard input: with whoever started it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Lock

ROOT = Path(__file__).parents[1]
COMMAND_TIMEOUT_S = 120.0
# Nothing that was configured for somebody else reaches a command.
FORGOTTEN = (
    "LLM_",
    "KB_",
    "OPENAI_",
    "DATABASE_URL",
    "REDIS_URL",
    "PF360_",
    "PORT",
    "HOST",
    "OUTCROP_",
    "DIRECTORY_FILE",
)
# Beside the application, what commands and the application import when they need it.
LATE = (
    *("backend.lambdas.service", "tools.executors.lambda_function"),
    *("backend.cli.commands", "backend.cli.serve", "backend.cli.doctor", "backend.cli.chat"),
    *("backend.cli.effects", "backend.embedded.stores", "backend.records.migrate", "rich.console"),
)


def environment(**more: str) -> dict[str, str]:
    """This process's, without any configuration of ours, and with the guard against other machines.

    Documents cost a start more than all the rest of it, so none are loaded unless a test wants them.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith(FORGOTTEN)}
    guarded = {"PYTHONPATH": f"{ROOT / 'tests' / 'loopback_only'}{os.pathsep}{ROOT}", "KB_AUTOLOAD": "0"}
    return {**kept, **guarded, **more}


@dataclass(frozen=True)
class Order:
    """A command, its whole environment, and paths; the exit code is written to `code`."""

    arguments: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    out: str
    err: str
    stdin: str = os.devnull
    code: str = os.devnull


class Nursery:
    """The running process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery"],
            cwd="/", env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._one_by_one = Lock()

    def fork(self, order: Order) -> int:
        """Run a command; its pid. Nobody has to wait for it: it leaves no zombie."""
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.poll() is None, "the process that forks commands has ended; see above why"
        with self._one_by_one:
            self._process.stdin.write(json.dumps(asdict(order)) + "\n")
            self._process.stdin.flush()
            pid = self._process.stdout.readline()
        assert pid, "the process that forks commands has ended; see above why"
        return int(pid)


@cache
def nursery() -> Nursery:
    """The one of this process, started by whoever asks first."""
    return Nursery()


def outcrop(*arguments: str, stdin: str = "", cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with `more` as its configuration."""
    with tempfile.TemporaryDirectory(prefix="outcrop-command-") as folder:
        said = {name: Path(folder, name) for name in ("stdin", "out", "err", "code")}
        said["stdin"].write_text(stdin, "utf-8")
        paths = {name: str(path) for name, path in said.items()}
        pid = nursery().fork(Order(arguments, environment(**more), str(cwd), **paths))
        _wait_for_end(pid, arguments)
        code, out, err = (said[name].read_text("utf-8") for name in ("code", "out", "err"))
        return subprocess.CompletedProcess(("outcrop", *arguments), int(code), out, err)


def address_in(log: str) -> str:
    """Where `outcrop serve` said in its log that it is; empty before it did."""
    found = re.search(r"^Outcrop is at (\S+)", log, re.MULTILINE)
    return found[1] if found else ""


def lives(pid: int) -> bool:
    """Whether a command of the nursery still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_for_end(pid: int, arguments: tuple[str, ...]) -> None:
    deadline = time.monotonic() + COMMAND_TIMEOUT_S
    while lives(pid):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"outcrop {' '.join(arguments)} did not end within {COMMAND_TIMEOUT_S:.0f} s")
        time.sleep(0.005)


def main() -> None:
    """Fork until nobody asks any more."""
    from backend.cli import serve

    serve._import_application()
    for module in LATE:
        import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # killed children leave no trace
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            be(Order(**json.loads(line)))
        print(pid, flush=True)


def be(order: Order) -> None:
    """Become the command; does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for target, path, flags in (
        (0, order.stdin, os.O_RDONLY),
        (1, order.out, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        (2, order.err, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        source = os.open(path, flags, 0o600)
        os.dup2(source, target)
        os.close(source)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 (until the end)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    os.chdir(order.cwd)
    os.environ.clear()
    os.environ.update(order.env)
    sys.argv = ["outcrop", *order.arguments]
    Path(order.code).write_text("1")  # for an end by an exception, which goes to the interpreter as always
    code = _run()
    sys.stdout.flush()
    sys.stderr.flush()
    Path(order.code).write_text(str(code))
    os._exit(code)


def _run() -> int:
    from backend.cli import main as outcrop

    try:
        outcrop()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


if __name__ == "__main__":
    main()
