"""Documents read in worker processes: one that hangs, dies or wants all memory is one document refused.

Small texts are read in this process, where nothing can go wrong that takes long.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import struct
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from knowledge_base.documents import Parsed, Raw
from knowledge_base.errors import Refused
from knowledge_base.parsing.deadline import late
from knowledge_base.parsing.kinds import kind_of
from knowledge_base.parsing.limits import MB, Limits
from knowledge_base.parsing.parse import check_size, parse
from knowledge_base.parsing.wire import read_parsed, request

log = logging.getLogger(__name__)

SMALL = 64 * 1024  # bytes of a text that is read here
START_SECONDS = 60.0
DOCUMENTS_PER_WORKER = 1000
ROOT = Path(__file__).parents[2]
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")


class Parser:
    """Reads documents, several at once; belongs to one event loop. Close it, or use it by `async with`."""

    def __init__(self, limits: Limits | None = None, *, workers: int = 2) -> None:
        self.limits = limits or Limits()
        self._idle: list[_Worker] = []
        self._turns = asyncio.Semaphore(workers)
        self._closed = False

    async def __aenter__(self) -> Parser:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def parse(self, raw: Raw) -> Parsed:
        """The document as markdown; `Refused` says what is wrong with it and what to do.

        `RuntimeError` when no worker process can be started, or the parser is closed.
        """
        check_size(raw, self.limits)
        if len(raw.content) <= SMALL and kind_of(raw) in ("md", "txt", "csv", "json", "jsonl"):
            return self._here(raw)
        async with self._turns:
            if self._closed:
                raise RuntimeError("the parser is closed")
            worker = self._idle.pop() if self._idle else await _Worker.start(self.limits.memory_bytes)
            try:
                body = await self._asked(worker, raw)
            except BaseException:
                await worker.kill()
                raise
            if worker.served < DOCUMENTS_PER_WORKER and "out_of_memory" not in body and not self._closed:
                self._idle.append(worker)
            else:
                await worker.kill()
        return self._told(raw.found.name, body)

    def _here(self, raw: Raw) -> Parsed:
        try:
            return parse(raw, self.limits)
        except Refused:
            raise
        except Exception as error:  # of one document, whatever it is: as of those that a worker reads
            log.exception("parser_failed document=%r", raw.found.name)
            raise _unreadable(raw.found.name, type(error).__name__) from error

    async def close(self) -> None:
        """End the workers; documents that are being read are read to their end."""
        self._closed = True
        while self._idle:
            await self._idle.pop().kill()

    async def _asked(self, worker: _Worker, raw: Raw) -> dict[str, Any]:
        name, seconds = raw.found.name, self.limits.seconds
        try:
            async with asyncio.timeout(seconds):
                return await worker.ask(raw, self.limits)
        except TimeoutError:
            raise late(name, seconds) from None
        except (asyncio.IncompleteReadError, ConnectionError):
            status = await worker.kill()
            if status == -signal.SIGXCPU:
                raise late(name, seconds) from None
            log.error("parser_worker_ended document=%r status=%s", name, status)
            raise Refused(
                "corrupt", f"{name}: its reader broke down over it; save it anew, or as another format"
            ) from None

    def _told(self, name: str, body: dict[str, Any]) -> Parsed:
        if "parsed" in body:
            return read_parsed(body["parsed"])
        if "refused" in body:
            raise Refused(*body["refused"])
        if "out_of_memory" in body:
            most = f"{self.limits.memory_bytes // MB} MB of memory"
            raise Refused("too_large", f"{name}: takes more than {most} to read; split it")
        log.error("parser_failed document=%r error=%s\n%s", name, body["failed"], body["traceback"])
        raise _unreadable(name, body["failed"])


def _unreadable(name: str, error: str) -> Refused:
    return Refused("corrupt", f"{name}: cannot be read ({error}); save it anew, or as another format")


class _Worker:
    """One process; whoever holds it is the only one who asks."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.served = 0

    @classmethod
    async def start(cls, memory_bytes: int) -> _Worker:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "knowledge_base.parsing.worker", str(memory_bytes)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
            start_new_session=True,  # Ctrl-C is for whoever started us: it closes the workers
        )
        worker = cls(process)
        try:
            async with asyncio.timeout(START_SECONDS):
                await worker._answer()
        except (asyncio.IncompleteReadError, TimeoutError) as error:
            status = await worker.kill()
            raise RuntimeError(f"a process that reads documents did not start (status {status})") from error
        except BaseException:
            await worker.kill()
            raise
        return worker

    async def ask(self, raw: Raw, limits: Limits) -> dict[str, Any]:
        """Its answer; `IncompleteReadError` or `ConnectionError` when it ends meanwhile."""
        self.served += 1
        assert self._process.stdin is not None
        for part in request(raw, limits):
            self._process.stdin.write(part)
        await self._process.stdin.drain()
        return await self._answer()

    async def kill(self) -> int:
        """End it at once; its exit status."""
        if self._process.returncode is None:
            try:
                self._process.kill()
            except ProcessLookupError:
                log.debug("parser_worker_was_gone")
        status = await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return status

    async def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        (length,) = struct.unpack(">Q", await self._process.stdout.readexactly(8))
        body: dict[str, Any] = orjson.loads(await self._process.stdout.readexactly(length))
        return body
