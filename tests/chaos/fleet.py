"""Servers as processes of their own: one that is talked to and killed, one that stands by over the same stores."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from uuid import uuid4

import httpx
import psutil

from backend.lambdas.functions import GROUPS_FOLDER
from backend.settings import AGENT
from tests.nursery import Order, address_in, environment, lives, nursery
from tests.ports import free_port

START_TIMEOUT_S = 60.0
# Without credentials, the AWS library looks for a role that this machine does not have.
NO_ACCOUNT = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_REGION": "us-east-1"}
GROUPS = ("scheduling", "notes")  # what changes something
Launch = Callable[[Mapping[str, str]], int]


class ServerProcess:
    """One server, on its way up; ready when `ready` returns. `launch` takes its environment and gives its pid."""

    def __init__(self, folder: Path, keys: Mapping[str, str], launch: Launch) -> None:
        self.url = ""
        self._log = folder / f"serve-{uuid4().hex}.log"
        self.pid = launch({**NO_ACCOUNT, **keys, "PORT": "0", "log": str(self._log)})

    async def ready(self) -> ServerProcess:
        """Wait until it takes turns."""
        async with asyncio.timeout(START_TIMEOUT_S), httpx.AsyncClient(trust_env=False) as client:
            while True:
                assert self._lives(), self.log
                self.url = self.url or address_in(self.log)
                if not self.url:
                    await asyncio.sleep(0.02)
                    continue
                try:
                    if (await client.get(f"{self.url}/readyz")).status_code == 200:
                        return self
                except httpx.TransportError:
                    await asyncio.sleep(0.02)

    @property
    def log(self) -> str:
        """What it printed."""
        return self._log.read_text()

    def send(self, number: signal.Signals) -> None:
        """A signal, and no more."""
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """As a crash does it: no chance to do anything."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """As an operator does it."""
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        self.send(number)
        async with asyncio.timeout(60):
            while self._lives():
                await asyncio.sleep(0.01)

    def _lives(self) -> bool:
        try:
            ended, _ = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # not ours: the nursery's
            ended = 0
        return lives(self.pid) and not ended


def outcrop_serve(keys: Mapping[str, str]) -> int:
    """The command as a person types it."""
    with open(keys["log"], "w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "backend", "serve"], stdout=log, stderr=log, env=environment(**keys),
        ).pid  # fmt: skip


def forked(keys: Mapping[str, str]) -> int:
    """The same, by a process that has imported everything already."""
    log = keys["log"]
    return nursery().fork(Order(("serve",), environment(**keys), str(Path(log).parent), log, log))


class Fleet:
    """Two servers; when the active one is killed, the other takes its place and a new one is started beside it."""

    def __init__(self, folder: Path, keys: Mapping[str, str]) -> None:
        self._folder, self._keys = folder, keys
        self.active, self._standby = self._start(), self._start()

    def _start(self) -> ServerProcess:
        return ServerProcess(self._folder, self._keys, forked)

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


def agent_on_functions(folder: Path, *, timeout_s: float, endpoint_url: str | None = None) -> dict[str, str]:
    """The key that names a scheduling agent with the groups that change something in functions.

    Each server runs them itself, unless `endpoint_url` says where they are.
    """
    agent = folder / f"functions-{endpoint_url.rpartition(':')[2] if endpoint_url else 'here'}" / AGENT.name
    if not agent.exists():
        shutil.copytree(AGENT, agent)
    groups = {}
    for name in GROUPS:
        where = {"function": name, "endpoint_url": endpoint_url, "region": "us-east-1"}
        own = {"function": f"{GROUPS_FOLDER / name / 'handler.py'}:handler"}
        groups[name] = {"executor": "lambda", "timeout_s": timeout_s, **(where if endpoint_url else own)}
    (agent / "action_groups.yaml").write_text(json.dumps(groups))
    return {"AGENT_DIR": str(agent)}


class FunctionService:
    """`outcrop lambda serve` with the groups that change something; started when it is needed first."""

    def __init__(self, folder: Path, keys: Mapping[str, str]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / f"functions-{port}.log"
        self._command = [sys.executable, "-m", "backend", "lambda", "serve", *GROUPS, "--port", str(port)]
        self._keys = {**NO_ACCOUNT, **keys}
        self._process: subprocess.Popen[bytes] | None = None

    async def ready(self) -> None:
        """It runs, and more functions are loaded than one call needs."""
        if self._process is None or self._process.poll() is not None:
            await self.start()

    async def start(self) -> None:
        """Start it, and load its functions."""
        self._launch()
        async with asyncio.timeout(START_TIMEOUT_S), httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            while not await self._loaded(client):
                assert self._process
                assert self._process.poll() is None, self._log.read_text()
                await asyncio.sleep(0.05)

    def _launch(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=environment(**self._keys))

    async def _loaded(self, client: httpx.AsyncClient) -> bool:
        """An event that is none is refused by the handler, once it has been imported."""
        paths = [f"/2015-03-31/functions/{name}/invocations" for name in (*GROUPS, "scheduling")]
        try:
            answers = await asyncio.gather(*(client.post(path, content=b"{}", timeout=30) for path in paths))
        except httpx.TransportError:
            return False
        return all(b"BadEvent" in answer.content for answer in answers)

    async def kill(self) -> None:
        """As a crash does it; its functions die with it."""
        assert self._process
        self._process.kill()
        await asyncio.to_thread(self._process.wait)

    def kill_functions(self) -> None:
        """The processes in which it runs functions, at one moment: it stands still until the last of them has ended.

        Else it could give a next call to one that is about to be killed.
        """
        self.suspend()
        try:
            assert self._process
            children = psutil.Process(self._process.pid).children(recursive=True)
            for child in children:
                child.kill()
            for child in children:
                while _runs(child):
                    time.sleep(0.001)
        finally:
            self.resume()

    def suspend(self) -> None:
        """Calls arrive, and nobody takes them."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    async def until_ended(self, calls: int) -> None:
        """Wait until so many calls have been answered."""
        async with asyncio.timeout(60):
            while self.calls_ended() < calls:
                await asyncio.sleep(0.01)

    def calls_ended(self) -> int:
        """How many have been answered so far."""
        return self._log.read_text().count("END RequestId")

    def close(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
