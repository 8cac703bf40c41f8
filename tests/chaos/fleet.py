"""Servers as processes of their own: one that is talked to and killed, one that stands by over the same stores."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import httpx

from tests.integration.test_cli import ROOT, environment, free_port

START_TIMEOUT_S = 60.0
Launch = Callable[[Mapping[str, str]], int]


class ServerProcess:
    """One server, on its way up; ready when `ready` returns. `launch` takes its environment and gives its pid."""

    def __init__(self, folder: Path, keys: Mapping[str, str], launch: Launch) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / f"serve-{port}.log"
        self._pid = launch({**keys, "PORT": str(port), "log": str(self._log)})

    async def ready(self) -> ServerProcess:
        """Wait until it takes turns."""
        async with asyncio.timeout(START_TIMEOUT_S), httpx.AsyncClient(trust_env=False) as client:
            while True:
                assert self._lives(), self.log
                try:
                    if (await client.get(f"{self.url}/readyz")).status_code == 200:
                        return self
                except httpx.TransportError:
                    await asyncio.sleep(0.02)

    @property
    def log(self) -> str:
        """What it printed."""
        return self._log.read_text()

    async def kill(self) -> None:
        """As a crash does it: no chance to do anything."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """As an operator does it."""
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        os.kill(self._pid, number)
        async with asyncio.timeout(30):
            while self._lives():
                await asyncio.sleep(0.01)

    def _lives(self) -> bool:
        try:
            ended, _ = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:  # not ours: the nursery's
            ended = 0
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return False
        return not ended


def outcrop_serve(keys: Mapping[str, str]) -> int:
    """The command as a person types it."""
    with open(keys["log"], "w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "backend", "serve"], stdout=log, stderr=log, env=environment(**keys),
        ).pid  # fmt: skip


class Fleet:
    """Two servers; when the active one is killed, the other takes its place and a new one is started beside it."""

    def __init__(self, folder: Path, keys: Mapping[str, str]) -> None:
        self._folder, self._keys = folder, keys
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nursery"],
            cwd=folder, env=environment(PYTHONPATH=str(ROOT)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.active, self._standby = self._start(), self._start()

    def _start(self) -> ServerProcess:
        return ServerProcess(self._folder, self._keys, self._fork)

    def _fork(self, keys: Mapping[str, str]) -> int:
        assert self._nursery.stdin
        assert self._nursery.stdout
        self._nursery.stdin.write(json.dumps(dict(keys)) + "\n")
        self._nursery.stdin.flush()
        return int(self._nursery.stdout.readline())

    async def ready(self) -> None:
        """Both take turns."""
        await asyncio.gather(self.active.ready(), self._standby.ready())

    async def kill_active(self) -> None:
        """The standby is the active one from now on."""
        await self.active.kill()
        self.active, self._standby = self._standby, self._start()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run(self._stop())

    async def _stop(self) -> None:
        await asyncio.gather(self.active.stop(), self._standby.stop())
        self._nursery.communicate()
