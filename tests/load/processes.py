"""Processes under measurement: started, waited for, their CPU and memory read, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import psutil

CHECKOUT = Path(__file__).parents[2]
START_TIMEOUT_S = 120.0


def tree(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    with suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    return []


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds that these processes and all below them have used so far.

    Linux counts nanoseconds per thread, which makes short measurements exact; elsewhere it is psutil's count.
    """
    total = 0.0
    for process in {each for pid in pids for each in tree(pid)}:
        with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            if sys.platform == "linux":
                for thread in Path(f"/proc/{process.pid}/task").iterdir():
                    total += int((thread / "schedstat").read_text().split()[0]) / 1e9
            else:
                used = process.cpu_times()
                total += used.user + used.system
    return total


def memory_mib(pids: Iterable[int]) -> float:
    """Resident memory; what processes share is counted once where the platform can tell."""
    total = 0
    for process in {each for pid in pids for each in tree(pid)}:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += process.memory_full_info().pss if sys.platform == "linux" else process.memory_info().rss
    return total / 2**20


@asynccontextmanager
async def started(
    argv: list[str], log: Path, *, healthy: str | None = None, more_env: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[int, float]]:
    """Run a Python module until the block ends: its pid, and the seconds to its first healthy answer."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LLM_", "PF360_"))}
    began = time.perf_counter()
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *argv,
            cwd=CHECKOUT,
            env={**environment, **(more_env or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        if healthy:
            await _until(healthy, process, log)
        yield process.pid, time.perf_counter() - began
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(30):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _until(url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    async with aiohttp.ClientSession() as client, asyncio.timeout(START_TIMEOUT_S):
        while True:
            if process.returncode is not None:
                raise RuntimeError(f"{url} did not start; see {log}:\n{_tail(log)}")
            with suppress(aiohttp.ClientError, OSError):
                async with client.get(url) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.01)


def _tail(log: Path) -> str:
    return log.read_text()[-3000:]
