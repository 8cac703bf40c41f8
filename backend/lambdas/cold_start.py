"""How long an archive's handler takes to import, in a process that sees nothing but the archive's content."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from statistics import median
from tempfile import TemporaryDirectory

from backend.lambdas.archive import MACHINES, Archive, interpreter

MEASURE = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
wall, cpu = time.perf_counter(), time.process_time()
import handler
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
"""
LIST = "import sys; sys.path.insert(0, sys.argv[1]); import handler"


class ImportFails(Exception):
    """The handler cannot be imported from the archive alone; the message is the end of the traceback."""


@dataclass(frozen=True)
class ColdStart:
    """Of a few fresh processes, in seconds; the interpreter's own start is not in them."""

    wall_s: float  # median
    cpu_s: float  # median
    least_cpu_s: float  # of the run that other programs on this machine disturbed least
    slowest: list[tuple[str, float]]  # top-level packages by the time their own modules took


def interpreter_for(archive: Archive) -> str | None:
    """A Python on this machine that can run the archive, None without one."""
    if sys.platform != "linux" or platform.machine() != MACHINES[archive.arch]:
        return None
    return interpreter(archive.python)


def measure(archive: Archive, interpreter: str, runs: int = 5) -> ColdStart:
    """Unpack it, and import its handler that many times.

    Without installed packages, and with no compiled files but the archive's own, as at the first start of a deployed
    function.

    Raises:
        ImportFails: something is missing in the archive.
    """
    with TemporaryDirectory(prefix="outcrop-lambda-") as folder:
        with zipfile.ZipFile(archive.path) as packed:
            packed.extractall(folder)
        times = [json.loads(_run(interpreter, [], MEASURE, folder).stdout) for _ in range(runs)]
        listed = _run(interpreter, ["-X", "importtime"], LIST, folder).stderr
    walls, cpus = zip(*times, strict=True)
    return ColdStart(median(walls), median(cpus), min(cpus), _by_package(listed))


def _run(interpreter: str, options: list[str], code: str, folder: str) -> subprocess.CompletedProcess[str]:
    command = [interpreter, "-I", "-S", "-B", *options, "-c", code, folder]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImportFails("\n".join(done.stderr.strip().splitlines()[-3:]))
    return done


def _by_package(listed: str) -> list[tuple[str, float]]:
    """The five packages that take longest, of what `-X importtime` prints: `import time: self | cumulative | name`."""
    seconds: dict[str, float] = {}
    for line in listed.splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            package = name.strip().split(".")[0]
            seconds[package] = seconds.get(package, 0.0) + int(own) / 1e6
    return sorted(seconds.items(), key=lambda item: -item[1])[:5]
