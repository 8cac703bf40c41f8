"""Lambda functions of this machine, behind the Lambda API on a loopback port."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import TracebackType

from backend.lambdas.functions import Function, UnusableFunction
from backend.lambdas.http import Server, listen
from backend.lambdas.invoke_api import InvokeApi
from backend.lambdas.pool import Pool
from backend.lambdas.worker import LogSink
from backend.settings import is_loopback


class CannotServe(Exception):
    """The service cannot run here; the message says why and what to do."""


class LocalLambda:
    """Serves functions until its block ends:

        async with LocalLambda([Function("hello", folder, "app.handler")]) as service:
            client = boto3.client("lambda", endpoint_url=service.url)

    Its workers are killed at the end, and by the kernel when this process is killed. On Linux they live as long as the
    thread that runs the event loop.
    """

    def __init__(
        self,
        functions: Sequence[Function],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        concurrency: int = 10,
        idle_s: float = 300.0,
        event_queue: int = 100,
        stop_grace_s: float = 2.0,
        log_sink: LogSink | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            functions: What to serve; names are unique.
            host: A loopback name or address.
            port: 0 takes a free one.
            concurrency: Workers of each function; a call beyond them is refused with 429.
            idle_s: A worker without work for that long is stopped.
            event_queue: Calls without an answer (`Event`) that may wait for a worker, for each function.
            stop_grace_s: How long the end waits for running calls before it kills their workers.
            log_sink: Called with function name and bytes for all that functions print.

        Raises:
            UnusableFunction: two functions have one name.
            CannotServe: not Linux, no `awslambdaric`, or a host that is not loopback.
        """
        _check(host)
        self._functions = {function.name: function for function in functions}
        if len(self._functions) < len(functions):
            raise UnusableFunction("Two functions have the same name.")
        self._host, self._port = host, port
        self._idle_s, self._stop_grace_s = idle_s, stop_grace_s
        starts = asyncio.Semaphore(2 * (os.cpu_count() or 1))
        self.pools = {
            name: Pool(
                function,
                concurrency=concurrency,
                idle_s=idle_s,
                event_queue=event_queue,
                starts=starts,
                log_sink=log_sink,
            )
            for name, function in self._functions.items()
        }
        self._server: Server | None = None
        self._reaper: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The endpoint for clients: `http://127.0.0.1:9001`."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def __aenter__(self) -> LocalLambda:
        """Listen; `CannotServe` when the port is taken."""
        try:
            listener = listen(self._host, self._port)
        except OSError as error:
            raise CannotServe(
                f"Cannot listen on {self._host}:{self._port}: {error.strerror}. "
                "Stop what uses the port, or choose another with --port."
            ) from error
        self._port = listener.getsockname()[1]
        self._server = Server(InvokeApi(self._functions, self.pools), listener)
        await self._server.start()
        self._reaper = asyncio.create_task(self._reap())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Refuse new calls, give running ones a moment, kill the workers, stop listening."""
        assert self._server is not None
        assert self._reaper is not None
        self._reaper.cancel()
        await asyncio.wait([self._reaper])
        await asyncio.gather(*(pool.close(self._stop_grace_s) for pool in self.pools.values()))
        await self._server.stop()

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(min(max(self._idle_s / 4, 0.05), 15.0))
            for pool in self.pools.values():
                await pool.reap()


def _check(host: str) -> None:
    if not is_loopback(host):
        raise CannotServe(f"Functions are served on loopback only, not on {host}; use --host 127.0.0.1.")
    if sys.platform != "linux":
        raise CannotServe("The AWS runtime for Python (awslambdaric) exists for Linux only.")
    if importlib.util.find_spec("awslambdaric") is None:
        raise CannotServe("The AWS runtime for Python is not installed. Get it: pip install 'outcrop[lambda]'")
