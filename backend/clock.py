"""The product's own time: real, or the simulator's while that one's is frozen for an evaluation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

import httpx
import orjson
import structlog

log = structlog.get_logger(__name__)


class ProductClock(Protocol):
    """Time as tools, pending actions and upstream tokens see it. Records carry real time."""

    def now(self) -> datetime:
        """Aware, in the deployment's zone."""
        ...

    async def refresh(self) -> None:
        """Called once at the start of each turn."""
        ...


class RealClock:
    """Real time in the deployment's zone."""

    def __init__(self, timezone: str) -> None:
        self._zone = ZoneInfo(timezone)

    def now(self) -> datetime:
        """The current moment."""
        return datetime.now(self._zone)

    async def refresh(self) -> None:
        """Real time needs none."""


class SimulatorClock:
    """The simulator's time as of the start of the turn; keeps the last known one when it does not answer."""

    def __init__(self, timezone: str, client: httpx.AsyncClient, admin_url: str, secret: str) -> None:
        self._zone = ZoneInfo(timezone)
        self._client = client
        self._url = f"{admin_url}/_sim/clock"
        self._headers = {"x-sim-secret": secret}
        self._known: datetime | None = None

    def now(self) -> datetime:
        """The simulator's moment; real time until it was heard of."""
        return self._known or datetime.now(UTC).astimezone(self._zone)

    async def refresh(self) -> None:
        """Ask the simulator."""
        try:
            answer = await self._client.get(self._url, headers=self._headers, timeout=2.0)
            answer.raise_for_status()
            self._known = datetime.fromisoformat(orjson.loads(answer.content)["now"]).astimezone(self._zone)
        except (httpx.HTTPError, ValueError, KeyError) as error:
            log.warning("simulator_clock_silent", error=repr(error))
