"""A circuit breaker for one upstream that is safe under asyncio.

pybreaker holds the state machine. Its own decorators never count the failures of a coroutine and let every waiting
caller probe a half-open circuit, so calls are admitted here and only their outcomes are told to the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pybreaker

from tools.contract import ToolError
from tools.errors import UpstreamUnavailable


class BreakerOpen(UpstreamUnavailable):
    """Not sent: this upstream failed repeatedly and is being left alone for a while."""


class Breaker:
    """Opens after `fail_max` failures in a row; after `reset_s` seconds one call at a time may probe.

    What counts as a failure, `guard` is told. A refusal counts as an answer; a cancelled call or a bug of ours says
    nothing about the upstream and leaves the circuit as it was. State is kept per process.
    """

    def __init__(
        self,
        name: str,
        *,
        fail_max: int = 20,
        reset_s: float = 3.0,
        on_change: Callable[[str, str], None] | None = None,
    ) -> None:
        """`on_change(name, state)` is called with `closed`, `open` or `half-open` at every transition."""
        self.name = name
        self._storage = pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
        self._machine = pybreaker.CircuitBreaker(
            fail_max=fail_max,
            reset_timeout=reset_s,
            state_storage=self._storage,
            throw_new_error_on_trip=False,
            listeners=[_Listener(name, on_change)] if on_change else [],
            name=name,
        )
        self._probing = False

    @property
    def state(self) -> str:
        """`closed`, `open` or `half-open`."""
        return str(self._machine.current_state)

    @contextmanager
    def guard(self, counts: type[BaseException] | tuple[type[BaseException], ...]) -> Iterator[None]:
        """Run one attempt; exceptions of the classes `counts` are failures. Raises `BreakerOpen` without running it."""
        probe = self._admit()
        try:
            yield
        except counts as failure:
            self._record(failure)
            raise
        except ToolError:
            self._record(None)  # a refusal is an answer
            raise
        else:
            self._record(None)
        finally:
            if probe:
                self._probing = False

    def _admit(self) -> bool:
        """Whether this call is the probe of an open circuit; raises when it may not run."""
        if self._machine.current_state == pybreaker.STATE_CLOSED:
            return False
        opened_at = self._storage.opened_at
        waited = opened_at is None or datetime.now(UTC) >= opened_at + timedelta(seconds=self._machine.reset_timeout)
        if self._probing or not waited:
            raise BreakerOpen("That system is not answering at the moment. Please try again in a little while.")
        self._probing = True
        return True

    def _record(self, failure: BaseException | None) -> None:
        def outcome() -> None:
            if failure is not None:
                _rethrow(failure)

        # A late outcome of a call that began before the circuit opened is refused by the machine, rightly.
        with suppress(pybreaker.CircuitBreakerError, *([type(failure)] if failure else [])):
            self._machine.call(outcome)


def _rethrow(failure: BaseException) -> NoReturn:
    raise failure


class _Listener(pybreaker.CircuitBreakerListener):
    def __init__(self, name: str, on_change: Callable[[str, str], None]) -> None:
        self._name = name
        self._on_change = on_change

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self._on_change(self._name, str(new_state.name))
