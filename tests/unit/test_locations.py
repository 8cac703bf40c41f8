"""Which location a word means, and how far away a start is."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from tools.contract import Directory, Identity, Location, ToolContext, ToolState
from tools.errors import Ambiguous
from tools.locations import resolve_location, time_until

EASTERN = ZoneInfo("America/New_York")
OFFICES = {
    "B1": Location("B1", "brookhaven", "Brookhaven Office", "Brookhaven", "555-0111", "America/New_York"),
    "P1": Location("P1", "portellis", "Port Ellis Office", "Port Ellis", "555-0133", "America/Chicago"),
    "X1": Location("X1", "elsewhere", "Elsewhere Office", "Elsewhere", "555-0199", "America/New_York"),
}


class Now:
    def __init__(self, moment: datetime) -> None:
        self._moment = moment

    def now(self) -> datetime:
        return self._moment


def context(moment: datetime = datetime(2026, 3, 11, 9, 30, tzinfo=EASTERN)) -> ToolContext:
    identity = Identity(role="customer", customer_id="7", customer_type="B2B", clients=("B1", "P1"))
    return ToolContext(identity, Directory(OFFICES), Now(moment), ToolState(), None, cast(Any, None))


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Brookhaven", "B1"),
        ("the brookhaven office", "B1"),
        ("Brokhaven", "B1"),
        ("port ellis", "P1"),
        ("portellis", "P1"),
        ("Port-Ellis store", "P1"),
        ("P1", "P1"),
        ("p1", "P1"),
        ("All locations", "all"),
    ],
)
async def test_words_mean_locations(said: str, meant: str) -> None:
    """Label, city, slug or id, in any case and with small slips."""
    assert await resolve_location(said, context()) == meant


@pytest.mark.parametrize("said", ["Elsewhere", "X1", "Paris", "7"])
async def test_other_words_list_the_choices(said: str) -> None:
    """Also those that name a location of somebody else."""
    with pytest.raises(Ambiguous) as refusal:
        await resolve_location(said, context())
    assert refusal.value.facts["candidates"] == ["Brookhaven Office", "Port Ellis Office"]


def test_hours_are_true_when_clocks_change() -> None:
    """In the night to March 8 an hour is missing."""
    before = context(datetime(2026, 3, 7, 9, 0, tzinfo=EASTERN))
    assert time_until(datetime(2026, 3, 8, 9, 0), before, "B1").total_seconds() == 23 * 3600
    assert time_until(datetime(2026, 3, 7, 9, 0), before, "P1").total_seconds() == 3600
