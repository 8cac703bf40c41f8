"""The seed data: where it lies, how it is read, and how its dates move to another week."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]

FIXTURE_PATH = Path(__file__).with_name("fixture.yaml")

REQUIRED = (
    "now",
    "timezone",
    "change_cutoff_hours",
    "request_id_ttl_seconds",
    "booking_horizon_days",
    "clients",
    "slot_templates",
    "customers",
    "projects",
    "notes",
    "weather",
    "teams",
    "queue",
)
_DATE_OR_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})(T\d{2}:\d{2}(?::\d{2})?(?:[+-]\d{2}:\d{2}|Z)?)?")
_FREE_TEXT = frozenset({"note_text", "author"})


class FixtureError(ValueError):
    """The seed data cannot be used; the message names what is missing or wrong."""


def read_fixture(path: Path = FIXTURE_PATH) -> Json:
    """The `fixture` block of a YAML file, unshifted."""
    # libyaml's loader is some ten times faster where the wheel has it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with path.open(encoding="utf-8") as file:
        document = yaml.load(file, Loader=loader)  # noqa: S506 - both loaders are the safe ones
    return fixture_block(document)


def fixture_block(document: object) -> Json:
    """Accept `{fixture: {...}}` or the block itself; `FixtureError` when keys are missing."""
    block = document.get("fixture", document) if isinstance(document, dict) else None
    if not isinstance(block, dict):
        raise FixtureError("the fixture must be a mapping")
    missing = [key for key in REQUIRED if key not in block]
    if missing:
        raise FixtureError(f"the fixture lacks {', '.join(missing)}")
    return block


def week_of(day: date) -> date:
    """The Monday of a day's week."""
    return day - timedelta(days=day.weekday())


def fixture_week(fixture: Json) -> date:
    """The Monday of the week in which the fixture's `now` lies."""
    return week_of(datetime.fromisoformat(fixture["now"]).date())


def weeks_between(earlier: date, later: date) -> int:
    """Whole weeks from one Monday to another; negative when `later` comes first."""
    return (later - earlier).days // 7


def shift_weeks(value: Any, weeks: int) -> Any:
    """A copy of `value` in which each date and local date-time, as key or value, lies `weeks` later.

    Only strings that are nothing but a date or a date-time move; free text stays as it was written.
    """
    if isinstance(value, str):
        return _shift_text(value, weeks)
    if isinstance(value, dict):
        return {
            shift_weeks(key, weeks): item if key in _FREE_TEXT else shift_weeks(item, weeks)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [shift_weeks(item, weeks) for item in value]
    return value


def _shift_text(text: str, weeks: int) -> str:
    match = _DATE_OR_TIME.fullmatch(text)
    if match is None:
        return text
    day = date.fromisoformat(match[1]) + timedelta(weeks=weeks)
    return f"{day.isoformat()}{match[2] or ''}"
