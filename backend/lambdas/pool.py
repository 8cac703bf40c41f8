"""The workers of one function: started on demand, used again, reaped when idle, never more than its concurrency."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog

from backend.lambdas.errors import LambdaError, ServiceFault, TooManyRequests
from backend.lambdas.functions import Function
from backend.lambdas.invocation import Invocation, Outcome
from backend.lambdas.worker import LogSink, Worker, WorkerGone

log = structlog.get_logger(__name__)


class Pool:
    """Calls one function. `starts` bounds how many workers of the whole service load their handlers at once."""

    def __init__(
        self,
        function: Function,
        *,
        concurrency: int,
        idle_s: float,
        event_queue: int,
        starts: asyncio.Semaphore,
        log_sink: LogSink | None,
    ) -> None:
        self.function = function
        self._idle_s = idle_s
        self._event_queue = event_queue
        self._starts = starts
        self._log_sink = log_sink
        self._slots = asyncio.Semaphore(concurrency)
        self._workers: set[Worker] = set()
        self._available: list[Worker] = []  # the one used last is at the end, and is taken first
        self._events: set[asyncio.Task[None]] = set()
        self._waiting_events = 0
        self._running: set[asyncio.Task[Any]] = set()
        self._closing = False

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    async def invoke(self, invocation: Invocation) -> Outcome:
        """Run one call now.

        Raises:
            TooManyRequests: every worker is busy.
            ServiceFault: no worker could be started.
        """
        self._check_open()
        if self._slots.locked():
            raise TooManyRequests("Rate Exceeded.")
        async with self._slots:
            return await self._run(invocation)

    def enqueue(self, invocation: Invocation) -> None:
        """Run one call when there is room, and forget its result; `TooManyRequests` when too many wait."""
        self._check_open()
        if self._waiting_events >= self._event_queue:
            raise TooManyRequests("The queue of events is full.", "CallerRateLimitExceeded")
        self._waiting_events += 1
        task = asyncio.create_task(self._run_event(invocation))
        self._events.add(task)
        task.add_done_callback(self._events.discard)

    async def reap(self) -> None:
        """Stop workers that have had nothing to do for too long, and those that ended meanwhile."""
        now = time.monotonic()
        due = [each for each in self._available if each.pid is None or now - each.idle_since >= self._idle_s]
        self._available = [each for each in self._available if each not in due]
        await asyncio.gather(*(self._discard(worker) for worker in due))

    async def close(self, grace_s: float) -> None:
        """Refuse new calls, give running ones a moment, kill all workers. Events that still wait are dropped."""
        self._closing = True
        if self._waiting_events:
            log.warning("lambda_events_dropped", function=self.function.name, events=self._waiting_events)
        if self._running:
            await asyncio.wait(set(self._running), timeout=grace_s)
        events = list(self._events)
        for task in events:
            task.cancel()
        await asyncio.gather(*events, return_exceptions=True)
        self._available.clear()
        await asyncio.gather(*(self._discard(worker) for worker in list(self._workers)))

    async def _run(self, invocation: Invocation) -> Outcome:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            return await self._run_on_any(invocation)
        finally:
            self._running.discard(task)

    async def _run_on_any(self, invocation: Invocation) -> Outcome:
        while True:
            worker = self._available.pop() if self._available else self._new()
            try:
                return await worker.run(invocation)
            except WorkerGone:
                continue
            finally:
                if worker.usable:
                    self._available.append(worker)
                else:
                    await self._discard(worker)

    def _check_open(self) -> None:
        if self._closing:
            raise ServiceFault("The service is stopping.")

    def _new(self) -> Worker:
        self._check_open()
        try:
            worker = Worker(self.function, self._starts, self._log_sink)
        except OSError as error:  # no pipe for its output: too many files are open
            raise ServiceFault(f"Function {self.function.name}: no worker could be started: {error}") from error
        self._workers.add(worker)
        return worker

    async def _run_event(self, invocation: Invocation) -> None:
        async with self._slots:
            self._waiting_events -= 1
            try:
                outcome = await self._run(invocation)
            except LambdaError as error:
                log.error("lambda_event_failed", function=self.function.name, id=invocation.id, reason=str(error))
                return
        if outcome.failed:
            said = outcome.payload[:500].decode(errors="replace")
            log.warning("lambda_event_failed", function=self.function.name, id=invocation.id, reason=said)

    async def _discard(self, worker: Worker) -> None:
        self._workers.discard(worker)
        await worker.stop()
