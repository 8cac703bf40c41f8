"""How a day's weather suits outdoor work. Advice only: nothing is ever moved because of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tools.pf360.models import WeatherDay
from tools.wording import figure

Mark = Literal["good", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond these, outdoor work of a kind suffers."""

    rain_percent: float
    min_f: float
    max_f: float
    wind_mph: float


@dataclass(frozen=True, slots=True)
class Suitability:
    """A mark and, unless good, what speaks against the day."""

    mark: Mark
    reasons: tuple[str, ...] = ()


DEFAULT = Limits(50, 40, 95, 25)
# Matched by the beginnings of words of a category.
_OUTDOOR: tuple[tuple[tuple[str, ...], Limits], ...] = (
    (("deck",), Limits(50, 40, 95, 25)),
    (("roof",), Limits(30, 40, 90, 20)),
    (("siding",), Limits(50, 35, 95, 25)),
    (("exterior paint",), Limits(20, 50, 90, 15)),
    (("fenc",), Limits(50, 32, 100, 30)),
    (("concrete",), Limits(30, 40, 95, 20)),
    (("window", "door"), Limits(40, 35, 95, 25)),
    (("gutter",), Limits(30, 35, 95, 20)),
    (("solar",), Limits(30, 40, 95, 20)),
)
_INDOOR = (
    "plumbing",
    "electric",
    "hvac",
    "appliance",
    "carpet",
    "interior paint",
    "drywall",
    "cabinet",
    "countertop",
    "floor",
    "lighting",
)
_BAD_CONDITIONS = ("thunder", "ice", "icy", "sleet", "snow", "blizzard", "hail", "freezing")
_BAD_RAIN_PERCENT = 70
_BAD_WIND_ABOVE_LIMIT_MPH = 10


def limits_of(category: str) -> Limits | None:
    """Limits of a category of work; None for indoor work, which no weather binds."""
    text = f" {' '.join(category.casefold().split())}"
    for words, limits in _OUTDOOR:
        if any(f" {word}" in text for word in words):
            return limits
    return None if any(f" {word}" in text for word in _INDOOR) else DEFAULT


def suitability(day: WeatherDay, limits: Limits) -> Suitability:
    """Mark a day: `bad` for thunderstorm, ice, snow, heavy rain or strong wind, `warn` beyond a limit, else `good`."""
    bad = _what_forbids(day, limits)
    if bad:
        return Suitability("bad", bad)
    beyond = _beyond(day, limits)
    return Suitability("warn", beyond) if beyond else Suitability("good")


def _what_forbids(day: WeatherDay, limits: Limits) -> tuple[str, ...]:
    found = []
    condition = day.condition.casefold()
    if any(f" {word}" in f" {condition}" for word in _BAD_CONDITIONS):
        found.append(condition)
    if day.rain_percent is not None and day.rain_percent >= _BAD_RAIN_PERCENT:
        found.append(f"{figure(day.rain_percent)} % chance of rain")
    if day.wind_mph is not None and day.wind_mph >= limits.wind_mph + _BAD_WIND_ABOVE_LIMIT_MPH:
        found.append(f"wind of {figure(day.wind_mph)} mph")
    return tuple(found)


def _beyond(day: WeatherDay, limits: Limits) -> tuple[str, ...]:
    found = []
    if day.rain_percent is not None and day.rain_percent > limits.rain_percent:
        found.append(f"{figure(day.rain_percent)} % chance of rain")
    if day.low_f is not None and day.low_f < limits.min_f:
        found.append(f"a low of {figure(day.low_f)} °F")
    if day.high_f is not None and day.high_f > limits.max_f:
        found.append(f"a high of {figure(day.high_f)} °F")
    if day.wind_mph is not None and day.wind_mph > limits.wind_mph:
        found.append(f"wind of {figure(day.wind_mph)} mph")
    return tuple(found)
