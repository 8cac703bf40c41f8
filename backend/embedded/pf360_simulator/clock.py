"""The simulator's clock: frozen at a moment, or running at a distance from real time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

ClockMode = Literal["fixture", "live"]


class Clock:
    """Time in the fixture's zone. Every rule of the simulator asks this clock and no other."""

    def __init__(self, zone: ZoneInfo, frozen_at: datetime | None = None) -> None:
        self.zone = zone
        self._frozen_at = frozen_at.astimezone(UTC) if frozen_at else None
        self._offset = timedelta(0)

    @property
    def frozen(self) -> bool:
        return self._frozen_at is not None

    def now(self) -> datetime:
        """The current moment, with the offset of the fixture's zone."""
        moment = self._frozen_at if self._frozen_at is not None else datetime.now(UTC) + self._offset
        return moment.astimezone(self.zone)

    def set(self, moment: datetime) -> None:
        """Jump to a moment (local when it has no offset); a running clock runs on from there."""
        local = moment if moment.tzinfo else moment.replace(tzinfo=self.zone)
        moment = local.astimezone(UTC)
        if self._frozen_at is not None:
            self._frozen_at = moment
        else:
            self._offset = moment - datetime.now(UTC)

    def advance(self, seconds: float) -> None:
        self.set(self.now().astimezone(UTC) + timedelta(seconds=seconds))

    def run(self, running: bool) -> None:
        """Let a frozen clock run from where it stands, or stop a running one."""
        now = self.now().astimezone(UTC)
        self._frozen_at = None if running else now
        self._offset = now - datetime.now(UTC)
