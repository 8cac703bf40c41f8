"""How weather suits outdoor work."""

from __future__ import annotations

from datetime import date

import pytest

from tools.pf360.models import WeatherDay
from tools.weather import DEFAULT, Limits, Mark, limits_of, suitability


def day(condition: str = "Clear", high: float = 76, low: float = 60, rain: float = 5, wind: float = 8) -> WeatherDay:
    return WeatherDay(date(2026, 3, 16), condition, high, low, rain, wind)


@pytest.mark.parametrize(
    ("category", "limits"),
    [
        ("Roofing", Limits(30, 40, 90, 20)),
        ("Deck Repair", Limits(50, 40, 95, 25)),
        ("Windows", Limits(40, 35, 95, 25)),
        ("Doors", Limits(40, 35, 95, 25)),
        ("Gutter", Limits(30, 35, 95, 20)),
        ("Fence", Limits(50, 32, 100, 30)),
        ("Exterior Painting", Limits(20, 50, 90, 15)),
        ("Signage", DEFAULT),
        ("Flooring", None),
        ("HVAC", None),
        ("Cabinets", None),
        ("Interior painting", None),
    ],
)
def test_limits_of_a_category(category: str, limits: Limits | None) -> None:
    """Indoor work has none."""
    assert limits_of(category) == limits


@pytest.mark.parametrize(
    ("weather", "mark"),
    [
        (day(), "good"),
        (day(rain=30), "good"),
        (day(rain=31), "warn"),
        (day(rain=70), "bad"),
        (day(wind=21), "warn"),
        (day(wind=30), "bad"),
        (day(low=39), "warn"),
        (day(high=91), "warn"),
        (day(condition="Thunderstorm"), "bad"),
        (day(condition="Light snow showers"), "bad"),
        (day(condition="Ice pellets"), "bad"),
        (day(condition="Nice and dry"), "good"),
    ],
)
def test_days_are_marked_for_roofing(weather: WeatherDay, mark: Mark) -> None:
    """Limits are exceeded, not reached; the forbidding values are reached."""
    judged = suitability(weather, Limits(30, 40, 90, 20))
    assert judged.mark == mark
    assert bool(judged.reasons) == (mark != "good")


def test_missing_figures_speak_against_nothing() -> None:
    """A silent forecast is no bad one."""
    unknown = WeatherDay(date(2026, 3, 16), "Unknown", None, None, None, None)
    assert suitability(unknown, DEFAULT).mark == "good"
