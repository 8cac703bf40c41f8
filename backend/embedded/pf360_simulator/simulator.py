"""One running simulator: configuration, clock, state and its file, armed faults, request log."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import deque
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson

from .auth import TokenReader
from .clock import Clock, ClockMode
from .faults import Faults, Latency
from .fixture import Json, fixture_block, fixture_week, read_fixture, shift_weeks, week_of, weeks_between
from .state import UpstreamState

STATE_VERSION = 1
LOGGED_REQUESTS = 2_000


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of one simulator. Without `state_file` everything is forgotten at exit."""

    jwt_secret: str
    admin_secret: str
    clock: ClockMode = "live"
    state_file: Path | None = None


class Simulator:
    """Holds what all requests share. Single-threaded: only the event loop touches it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.seed = read_fixture()
        self.tokens = TokenReader(config.jwt_secret)
        self.closing = asyncio.Event()
        self.clock: Clock
        self.state: UpstreamState
        self._renew(self.seed)
        stored = self._stored_state()
        if stored is not None:
            self.state = stored
        self._saved_commits = self.state.commit_count

    def reset(self, fixture: object = None) -> None:
        """Fresh seed data (or another fixture's), nothing armed, the clock as at start."""
        self._renew(self.seed if fixture is None else fixture_block(fixture))
        self.save()

    def _renew(self, fixture: Json) -> None:
        zone = ZoneInfo(fixture["timezone"])
        frozen_at = datetime.fromisoformat(fixture["now"]) if self.config.clock == "fixture" else None
        clock = Clock(zone, frozen_at)
        # Built whole before anything is replaced: a fixture that cannot be used leaves the old data in place.
        weeks = weeks_between(fixture_week(fixture), week_of(clock.now().date()))
        state = UpstreamState(shift_weeks(fixture, weeks))
        self.clock, self.state = clock, state
        self.faults, self.latency = Faults(), Latency()
        self.log: deque[Json] = deque(maxlen=LOGGED_REQUESTS)
        self._arrivals: dict[str, deque[float]] = {}

    # --- the state file

    def save_if_changed(self) -> None:
        if self.state.commit_count != self._saved_commits:
            self.save()

    def save(self) -> None:
        """Replace the state file as a whole, so that a crash leaves the old one or the new one."""
        self._saved_commits = self.state.commit_count
        path = self.config.state_file
        if path is None:
            return
        week = fixture_week(self.state.fixture).isoformat()
        content = orjson.dumps({"version": STATE_VERSION, "week": week, "state": self.state.to_json()})
        beside = path.with_name(f".{path.name}.new")
        beside.write_bytes(content)
        os.replace(beside, path)

    def _stored_state(self) -> UpstreamState | None:
        """The state of the last run with its dates in the clock's week; None when there is none to use."""
        path = self.config.state_file
        if path is None or not path.exists():
            return None
        try:
            stored = orjson.loads(path.read_bytes())
            if stored["version"] != STATE_VERSION:
                raise ValueError(f"its version is {stored['version']}")
            if stored["state"]["fixture"].get("fixture_version") != self.seed.get("fixture_version"):
                raise ValueError("it was made from another seed")
            return self._placed_in_week(stored)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            aside = path.with_name(f"{path.name}.unusable")
            os.replace(path, aside)
            print(f"pf360_simulator: {path} cannot be used ({error}); kept as {aside}", file=sys.stderr)  # noqa: T201
            return None

    def _placed_in_week(self, stored: Json) -> UpstreamState:
        """Move stored dates when their week is not the clock's. The commit log stays as it was written."""
        weeks = weeks_between(date.fromisoformat(stored["week"]), week_of(self.clock.now().date()))
        content = stored["state"]
        if weeks:
            # Tickets last 30 minutes: none of an earlier week is alive.
            content = {**shift_weeks({**content, "commits": []}, weeks), "commits": content["commits"], "tickets": []}
        return UpstreamState.from_json(content)

    # --- per request

    async def pause(self, seconds: float) -> bool:
        """Wait; True when the simulator is closing and waiting has no point any more."""
        if seconds <= 0:
            return False
        try:
            await asyncio.wait_for(self.closing.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def over_rate(self, client_id: str) -> bool:
        """Whether a client exceeds its requests per second (real time); counts this request."""
        limit = self.state.switches.per_client_rps
        if not limit:
            return False
        now = time.monotonic()
        arrivals = self._arrivals.setdefault(client_id, deque())
        while arrivals and now - arrivals[0] > 1.0:
            arrivals.popleft()
        if len(arrivals) >= limit:
            return True
        arrivals.append(now)
        return False
