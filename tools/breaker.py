"""A circuit breaker for one upstream: safe under asyncio, its state shared by all processes that guard the same one.

pybreaker holds the state machine. Its own decorators never count the failures of a coroutine and let every waiting
caller probe a half-open circuit, so calls are admitted here and only their outcomes are told to the machine.

What a breaker sees goes to other processes through an `Exchange`, which also brings what they saw. A call waits for it
only in order to probe an open circuit; a call through a closed one touches memory alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol

import pybreaker

from tools.contract import ToolError
from tools.errors import UpstreamUnavailable

OPEN, CLOSED = pybreaker.STATE_OPEN, pybreaker.STATE_CLOSED
OPEN_HINT = "That system is not answering at the moment. Please try again in a little while."

Failures = type[BaseException] | tuple[type[BaseException], ...]


class BreakerOpen(UpstreamUnavailable):
    """Not sent: this upstream failed repeatedly and is being left alone for a while."""


@dataclass(frozen=True, slots=True)
class News:
    """What a breaker has seen on top of `epoch`, the last opening or closing that it knows all to know.

    A `change` that it made itself outweighs the counts. `wait_s` is until a probe is due; `probing`: it probes, or asks
    whether it may.
    """

    epoch: int
    open: bool
    change: bool
    wait_s: float
    succeeded: bool  # failures before that count no more
    failures: int
    probing: bool


@dataclass(frozen=True, slots=True)
class Circuit:
    """What all processes know of an upstream. `epoch` 0: nothing is on record."""

    epoch: int
    open: bool
    failures: int  # in a row, while closed
    wait_s: float  # until one may probe, while open
    probed: bool  # another process is probing now


@dataclass(frozen=True, slots=True)
class Snapshot:
    """For operators: `state` is `closed`, `open` or `half-open`; `failures` in a row; seconds until a probe is due."""

    state: str
    failures: int
    retry_in_s: float


class Exchange(Protocol):
    """The way to the breakers of the same names in other processes."""

    def join(self, breaker: Breaker) -> None:
        """Pass on the breaker's `news` from now on, and let it `learn`."""
        ...

    def wake(self) -> None:
        """Some breaker has news that should not wait for the next refresh."""
        ...

    async def claim(self, breaker: Breaker) -> bool:
        """Whether this process may probe, alone of all, until it says otherwise or dies."""
        ...


class Alone:
    """No other process: the state is that of this one, in memory."""

    def join(self, breaker: Breaker) -> None:
        """Nothing to pass on."""

    def wake(self) -> None:
        """Nobody to tell."""

    async def claim(self, breaker: Breaker) -> bool:
        """Always; the breaker itself lets one caller at a time ask."""
        return True


class Breaker:
    """Opens after `fail_max` failures in a row; after `reset_s` seconds one call at a time may probe.

    What counts as a failure, `guard` is told. A refusal counts as an answer; a cancelled call or a bug of ours says
    nothing about the upstream and leaves the circuit as it was.
    """

    def __init__(
        self,
        name: str,
        *,
        fail_max: int = 20,
        reset_s: float = 3.0,
        exchange: Exchange = Alone(),
        on_change: Callable[[str, str], None] | None = None,
    ) -> None:
        """`on_change(name, state)` is called with `closed`, `open` or `half-open` at every transition."""
        self.name = name
        self.fail_max = fail_max
        self.reset_s = reset_s
        self._exchange = exchange
        self._storage = pybreaker.CircuitMemoryStorage(CLOSED)
        self._machine = pybreaker.CircuitBreaker(
            fail_max=fail_max,
            state_storage=self._storage,
            throw_new_error_on_trip=False,
            listeners=[_Listener(name, on_change)] if on_change else [],
            name=name,
        )
        self._retry_at = 0.0  # time.monotonic()
        self._probing = False
        self._elsewhere = False  # another process probes
        self._era = 0  # counts openings and closings seen here: a call that began in another one says nothing any more
        self._epoch = 0
        self._change = False
        self._succeeded = False
        self._failures = 0
        exchange.join(self)

    @property
    def state(self) -> str:
        """`closed`, `open` or `half-open`."""
        return str(self._storage.state)

    @property
    def refuses(self) -> bool:
        """Whether a call made now would not be sent: it is too early to probe, or another call probes."""
        if self._storage.state == CLOSED:
            return False
        return self._probing or self._elsewhere or time.monotonic() < self._retry_at

    def snapshot(self) -> Snapshot:
        """How things stand, as far as this process knows."""
        waits_s = 0.0 if self.state == CLOSED else max(0.0, self._retry_at - time.monotonic())
        return Snapshot(self.state, self._storage.counter, waits_s)

    def guard(self, counts: Failures = UpstreamUnavailable, answers: Failures = ToolError) -> Guard:
        """`async with` around one attempt; exceptions of the classes `counts` are failures, others of `answers` none.

        Raises `BreakerOpen` without running it; whatever the attempt raises passes through as it is.
        """
        return Guard(self, counts, answers)

    # --- for the exchange -----------------------------------------------------------------------------------------

    def news(self) -> News:
        """What others have not been told; give it to `learn` with their answer, or to `untold` when there is none."""
        wait_s = max(0.0, self._retry_at - time.monotonic())
        is_open = self._storage.state != CLOSED
        told = News(self._epoch, is_open, self._change, wait_s, self._succeeded, self._failures, self._probing)
        self._change, self._succeeded, self._failures = False, False, 0
        return told

    def untold(self, news: News) -> None:
        """Nobody heard it: keep it for the next time, and act alone until then."""
        self._elsewhere = False
        self._change = self._change or news.change
        if not self._succeeded:
            self._succeeded = news.succeeded
            self._failures += news.failures

    def learn(self, news: News, circuit: Circuit) -> None:
        """Take over what all know, after they were told `news`; what was seen since then is kept on top of it."""
        self._elsewhere = circuit.probed
        if circuit.epoch == 0 and self._epoch and news.open:
            self._epoch, self._change = 0, True  # the record was lost, not the trouble: say it again
            return
        self._epoch = circuit.epoch
        if circuit.open != news.open:
            self._adopt(circuit)
        elif self._change:
            return
        if circuit.open:
            self._retry_at = time.monotonic() + circuit.wait_s
        elif self._storage.state == CLOSED:
            self._count((0 if self._succeeded else circuit.failures) + self._failures)

    def _adopt(self, circuit: Circuit) -> None:
        self._change, self._succeeded, self._failures = False, False, 0
        if circuit.open != (self._storage.state != CLOSED):
            self._era += 1
            (self._machine.open if circuit.open else self._machine.close)()

    def _count(self, failures: int) -> None:
        self._storage.reset_counter()
        for _ in range(min(failures, self.fail_max - 1)):
            self._storage.increment_counter()

    # --- for the guard --------------------------------------------------------------------------------------------

    async def _admit(self) -> bool:
        """Whether this call, which found the circuit open, is its probe; False when it has closed meanwhile.

        Raises `BreakerOpen` when it may not run.
        """
        if self._probing or self._elsewhere or time.monotonic() < self._retry_at:
            raise BreakerOpen(OPEN_HINT)
        self._probing, granted = True, False
        try:
            granted = await self._exchange.claim(self) and self._storage.state != CLOSED
        finally:
            self._probing = granted
        if granted:
            if self._storage.state == OPEN:
                self._machine.half_open()
        elif self._storage.state != CLOSED:
            raise BreakerOpen(OPEN_HINT)
        return granted

    def _record(self, era: int, *, failed: bool) -> None:
        """Tell the machine how a call that began in `era` ended."""
        if era != self._era:
            return
        before = self._storage.state
        if not failed and before == CLOSED and not self._storage.counter:
            return
        with suppress(_Failure):
            self._machine.call(_fail if failed else _succeed)
        if self._storage.state != before:
            self._era += 1
            self._change, self._succeeded, self._failures = True, False, 0
            self._retry_at = time.monotonic() + self.reset_s
        elif failed:
            self._failures += 1
        else:
            self._succeeded, self._failures = True, 0
        self._exchange.wake()

    def _end_probe(self) -> None:
        self._probing = False
        self._exchange.wake()


class Guard:
    """One attempt behind a breaker; see `Breaker.guard`."""

    __slots__ = ("_answers", "_breaker", "_counts", "_era", "_probe")

    def __init__(self, breaker: Breaker, counts: Failures, answers: Failures) -> None:
        self._breaker = breaker
        self._counts = counts
        self._answers = answers
        self._probe = False
        self._era = 0

    async def __aenter__(self) -> None:
        breaker = self._breaker
        if breaker._storage.state != CLOSED:
            self._probe = await breaker._admit()
        self._era = breaker._era

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> Literal[False]:
        breaker = self._breaker
        if error is None:
            breaker._record(self._era, failed=False)
        elif isinstance(error, self._counts):
            if not isinstance(error, BreakerOpen):  # of another upstream, further in: this one was not asked
                breaker._record(self._era, failed=True)
        elif isinstance(error, self._answers):
            breaker._record(self._era, failed=False)  # a refusal is an answer
        if self._probe:
            breaker._end_probe()
        return False


class _Failure(Exception):
    """Stands for the real one, which must not be touched on its way to the caller."""


def _fail() -> None:
    raise _Failure


def _succeed() -> None:
    """An answer came."""


class _Listener(pybreaker.CircuitBreakerListener):
    def __init__(self, name: str, on_change: Callable[[str, str], None]) -> None:
        self._name = name
        self._on_change = on_change

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self._on_change(self._name, str(new_state.name))
