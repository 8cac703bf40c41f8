"""One process of a function: the AWS runtime in it, the Runtime API that it polls, its output.

Each worker has a port of its own. The runtime cannot say which process it is, and reports errors of its start to the
root of the address it was given, so that the address is what tells workers apart.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, NamedTuple

import psutil
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from backend.embedded.process import TIED_EXEC
from backend.lambdas.errors import ServiceFault
from backend.lambdas.functions import VERSION, Function
from backend.lambdas.http import BodyTooLarge, Disconnected, answer, comes_from_here, listen, read_body
from backend.lambdas.invocation import (
    LOG_TAIL_BYTES,
    MAX_ANSWER_BYTES,
    Invocation,
    Outcome,
    exited,
    timed_out,
    too_large,
)

LOOPBACK = "127.0.0.1"
API = "/2018-06-01/runtime/"
INIT_LIMIT_S = 10.0
PIPE_BYTES = 65_536  # what a pipe holds
MAX_READS = 16  # at a time: a function that prints without end must not keep us from everything else
LogSink = Callable[[str, bytes], None]


class Said(NamedTuple):
    """A payload, and whether it says that the function failed."""

    payload: bytes
    failed: bool


class WorkerGone(Exception):
    """A worker that had answered before ended, or fell silent, before it took the next call: nothing of it has run."""


class Output:
    """What a process prints: the end of it since the last call began, and all of it to a sink."""

    def __init__(self, name: str, sink: LogSink | None) -> None:
        self._name = name
        self._sink = sink
        self._tail = bytearray()
        self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read_end, False)
        asyncio.get_running_loop().add_reader(self._read_end, self.drain)

    def begin(self) -> None:
        """From here on it belongs to another call."""
        self.drain()
        self._tail.clear()

    def note(self, line: str) -> None:
        """Add a line of the platform's own."""
        self.drain()
        self._add(f"{line}\n".encode())

    def tail(self) -> bytes:
        """The last 4 KB of this call's output."""
        self.drain()
        return bytes(self._tail[-LOG_TAIL_BYTES:])

    def drain(self) -> None:
        """Take what has been written so far: what a handler printed before it answered is in the pipe by now."""
        with suppress(BlockingIOError):
            for _ in range(MAX_READS):
                part = os.read(self._read_end, PIPE_BYTES) if self._read_end >= 0 else b""
                if not part:
                    self.close()  # nobody can write any more
                    return
                # The runtime separates the lines of one message by carriage returns.
                self._add(part.replace(b"\r", b"\n"))

    def started(self) -> None:
        """The process has the writing end; give up ours."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def close(self) -> None:
        """Stop listening."""
        self.started()
        if self._read_end >= 0:
            asyncio.get_running_loop().remove_reader(self._read_end)
            os.close(self._read_end)
            self._read_end = -1

    def _add(self, part: bytes) -> None:
        self._tail += part
        del self._tail[: -2 * LOG_TAIL_BYTES]
        if self._sink:
            self._sink(self._name, part)


class Worker:
    """Runs one call at a time; started by its first. `usable` says whether it can take another."""

    def __init__(self, function: Function, starts: asyncio.Semaphore, log_sink: LogSink | None = None) -> None:
        """`starts` bounds how many load their handlers at once: all at once, each would exceed its time."""
        self.function = function
        self.idle_since = time.monotonic()
        self.usable = False
        self._stopped = False
        self._starts = starts
        self._output = Output(function.name, log_sink)
        self._process: Process | None = None
        self._ended: asyncio.Task[int] | None = None
        self._port: asyncio.Server | None = None
        self._state = ServerState()
        self._polls = asyncio.Event()
        self._inbox: asyncio.Queue[Invocation | None] = asyncio.Queue(1)
        self._current: Invocation | None = None
        self._said: asyncio.Future[Said] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def run(self, invocation: Invocation) -> Outcome:
        """Give it one call and wait for the end.

        Raises:
            WorkerGone: it had ended before it took the call; another worker can.
            ServiceFault: the operating system refused a port or a process.
        """
        self.usable = False
        self._current = invocation
        if self._process is None:
            init_s, failure = await self._begin()
            report = f"Init Duration: {init_s * 1000:.2f} ms\t"
            if failure:
                self._output.note(f"START RequestId: {invocation.id} Version: {VERSION}")
                return self._finish(invocation, failure, report, init_s)
        elif self._is_dead() or await self._until_it_polls(self.function.timeout_s):
            raise WorkerGone
        else:
            self._output.begin()
            report = ""
        began = time.monotonic()
        self._output.note(f"START RequestId: {invocation.id} Version: {VERSION}")
        self._polls.clear()
        self._inbox.put_nowait(invocation)
        await self._first_of(self._said, timeout_s=self.function.timeout_s)
        self.usable = self._said.done() and self.pid is not None
        return self._finish(invocation, self._result(self.function.timeout_s), report, time.monotonic() - began)

    async def stop(self) -> None:
        """Kill the process and whatever it started, and free the port. Safe to call twice."""
        self.usable = False
        self._stopped = True
        if self._process and self._ended:
            if not self._ended.done():  # after its end, the number may be another's
                self._kill(self._process)
            await self._ended
        if not self._inbox.full():
            self._inbox.put_nowait(None)  # ends a poll that waits
        if self._port:
            self._port.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        self._output.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The Runtime API, as the process in this worker sees it."""
        path = scope["path"].removeprefix(API)
        what = (scope["method"], path.rpartition("/")[2] if path.startswith("invocation/") else path)
        if not comes_from_here(scope):
            await answer(send, 403, b'{"errorType":"Forbidden","errorMessage":"loopback only"}')
        elif what == ("GET", "next"):
            await self._next(send)
        elif what in (("POST", "response"), ("POST", "error"), ("POST", "init/error")):
            await self._take(what[1], path, receive, send)
        else:
            await answer(send, 404, b'{"errorType":"NotFound","errorMessage":"no such path of the Runtime API"}')

    async def _begin(self) -> tuple[float, Said | None]:
        """Start the process and wait until it has loaded the handler: how long that took, and why it did not."""
        async with self._starts:
            if self._stopped:
                raise ServiceFault("The service is stopping.")
            began = time.monotonic()
            try:
                await self._spawn()
            except OSError as error:
                raise ServiceFault(f"Function {self.function.name}: no worker could be started: {error}") from error
            failure = await self._until_it_polls(max(INIT_LIMIT_S, self.function.timeout_s))
            return time.monotonic() - began, failure

    async def _spawn(self) -> None:
        self._port = await self._listen()
        host, port = self._port.sockets[0].getsockname()
        tie = [sys.executable, "-I", "-S", TIED_EXEC, str(os.getpid()), str(int(signal.SIGKILL)), "-1", "-1"]
        # A session of its own: Ctrl-C reaches us alone, and what the handler starts can be killed with it.
        self._process = await asyncio.create_subprocess_exec(
            *tie, sys.executable, "-m", "awslambdaric", self.function.handler,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._output.write_end,
            stderr=self._output.write_end,
            cwd=self.function.folder,
            env=self.function.process_environment(f"{host}:{port}"),
            start_new_session=True,
        )  # fmt: skip
        self._output.started()
        self._ended = asyncio.create_task(self._wait_for_end(self._process))

    async def _listen(self) -> asyncio.Server:
        config = Config(
            self, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False,
            server_header=False, proxy_headers=False, timeout_keep_alive=3600,
        )  # fmt: skip
        config.load()
        loop = asyncio.get_running_loop()
        return await loop.create_server(
            lambda: HttpToolsProtocol(config=config, server_state=self._state, app_state={}),
            sock=listen(LOOPBACK, 0),
        )

    async def _next(self, send: Send) -> None:
        self._polls.set()
        invocation = await self._inbox.get()
        if invocation is None:
            await answer(send, 410)
            return
        deadline = time.time() + self.function.timeout_s
        headers = {
            "lambda-runtime-aws-request-id": invocation.id,
            "lambda-runtime-deadline-ms": str(math.floor(deadline * 1000)),
            "lambda-runtime-invoked-function-arn": invocation.function_arn,
            "lambda-runtime-trace-id": invocation.trace_id,
        }
        if invocation.client_context is not None:
            headers["lambda-runtime-client-context"] = invocation.client_context
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await answer(send, 200, invocation.payload, encoded)

    async def _take(self, what: str, path: str, receive: Receive, send: Send) -> None:
        """The handler's answer, its failure, or why it could not be loaded."""
        current = self._current
        if what != "init/error" and (current is None or path.split("/")[1] != current.id):
            await answer(send, 400, b'{"errorType":"InvalidRequestID","errorMessage":"not the current invocation"}')
            return
        try:
            body = await read_body(receive, MAX_ANSWER_BYTES)
        except BodyTooLarge as error:
            self._say(too_large(error.size_bytes), failed=True)
            await answer(send, 413, b'{"errorType":"RequestEntityTooLarge","errorMessage":"the response is too large"}')
        except Disconnected:
            return  # the process ended in the middle, and its end is noticed
        else:
            self._say(body, failed=what != "response")
            await answer(send, 202, b'{"status":"OK"}')

    def _say(self, payload: bytes, *, failed: bool) -> None:
        if not self._said.done():
            self._said.set_result(Said(payload, failed))

    async def _until_it_polls(self, limit_s: float) -> Said | None:
        """Wait until it asks for work. What stands in the way, if it does not."""
        if not self._polls.is_set():
            await self._first_of(self._said, self._polls.wait(), timeout_s=limit_s)
        return None if self._polls.is_set() and not self._said.done() else self._result(limit_s)

    async def _first_of(self, *events: asyncio.Future[Any] | Coroutine[Any, Any, Any], timeout_s: float) -> None:
        """Wait for one of these, the end of the process, or the time-out."""
        assert self._ended is not None
        waiting = [asyncio.ensure_future(event) for event in events]
        try:
            await asyncio.wait([*waiting, self._ended], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                if task is not self._said:
                    task.cancel()

    def _result(self, limit_s: float) -> Said:
        """What it said; else its end, or the time-out, as an error body."""
        assert self._ended is not None
        assert self._current is not None
        if self._said.done():
            return self._said.result()
        if self._ended.done():
            return Said(exited(self._current.id, self._ended.result()), failed=True)
        self._output.note(f"{self._current.id} Task timed out after {limit_s:.2f} seconds\n")
        return Said(timed_out(self._current.id, limit_s), failed=True)

    def _finish(self, invocation: Invocation, said: Said, report: str, duration_s: float) -> Outcome:
        """Close the call with the platform's last log lines."""
        duration_ms = duration_s * 1000
        self._output.note(
            f"END RequestId: {invocation.id}\nREPORT RequestId: {invocation.id}\tDuration: {duration_ms:.2f} ms\t"
            f"Billed Duration: {math.ceil(duration_ms)} ms\tMemory Size: {self.function.memory_mb} MB\t"
            f"Max Memory Used: {self._resident_mb()} MB\t{report}"
        )
        self._current = None
        self._said = asyncio.get_running_loop().create_future()
        self.idle_since = time.monotonic()
        return Outcome(said.payload, said.failed, self._output.tail())

    def _is_dead(self) -> bool:
        """Whether it has ended, also where the event loop has not heard of it yet."""
        if self.pid is None:
            return True
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def _resident_mb(self) -> int:
        with suppress(psutil.Error):
            if self.pid:
                return math.ceil(psutil.Process(self.pid).memory_info().rss / 2**20)
        return 0

    async def _wait_for_end(self, process: Process) -> int:
        code = await process.wait()
        self._kill(process)  # what it started
        return code

    def _kill(self, process: Process) -> None:
        # The process leads its group, which outlives it as long as anything that it started does.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
