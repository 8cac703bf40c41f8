"""Finding dates and times in prose, as people write them in English or Spanish."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

_MONTHS = {
    1: "january jan enero ene",
    2: "february feb febrero",
    3: "march mar marzo",
    4: "april apr abril abr",
    5: "may mayo",
    6: "june jun junio",
    7: "july jul julio",
    8: "august aug agosto ago",
    9: "september sept sep septiembre setiembre",
    10: "october oct octubre",
    11: "november nov noviembre",
    12: "december dec diciembre dic",
}
_WEEKDAYS = (
    "monday mon lunes",
    "tuesday tues tue martes",
    "wednesday weds wed miércoles miercoles",
    "thursday thurs thur thu jueves",
    "friday fri viernes",
    "saturday sat sábado sabado",
    "sunday sun domingo",
)
MONTH_NUMBER = {name: number for number, names in _MONTHS.items() for name in names.split()}
WEEKDAY_NUMBER = {name: number for number, names in enumerate(_WEEKDAYS) for name in names.split()}


def _alternatives(names: dict[str, int]) -> str:
    return "|".join(sorted(names, key=len, reverse=True))


_MONTH = rf"(?P<month>{_alternatives(MONTH_NUMBER)})\b\.?"
_WEEKDAY = rf"\b(?P<weekday>{_alternatives(WEEKDAY_NUMBER)})\b\.?"
_LEAD = rf"(?:{_WEEKDAY}(?:[^\S\n]*[,(–—-][^\S\n]*|[^\S\n]+)(?:the[^\S\n]+|el[^\S\n]+)?)?"
_NOT_A_TIME = r"(?!\d|:\d|[^\S\n]*[ap]\.?[^\S\n]?m\b|[^\S\n]*[ap]\.m|[^\S\n]*o'clock|[^\S\n]*%|[^\S\n]*°)"
_DAY = rf"(?P<day>\d{{1,2}})(?P<ordinal>st|nd|rd|th)?\b{_NOT_A_TIME}"
_YEAR = r"(?:(?:,[^\S\n]*|[^\S\n]+(?:de[^\S\n]+|del[^\S\n]+)?)(?P<year>\d{4})\b(?!:))?"
_AFTER = rf"(?:[^\S\n]*\((?P<after>{_alternatives(WEEKDAY_NUMBER)})\))?"
_FLAGS = re.IGNORECASE

_MONTH_DAY = re.compile(rf"{_LEAD}\b{_MONTH}[^\S\n]+(?:the[^\S\n]+)?{_DAY}{_YEAR}{_AFTER}", _FLAGS)
_DAY_MONTH = re.compile(
    rf"{_LEAD}(?<![\d/:.-]){_DAY}[^\S\n]+(?P<of>of[^\S\n]+|de[^\S\n]+)?{_MONTH}(?!\w){_YEAR}{_AFTER}", _FLAGS
)
_ISO = re.compile(rf"{_LEAD}(?<!\d)(?P<year>\d{{4}})-(?P<month>\d{{2}})-(?P<day>\d{{2}})(?!\d){_AFTER}", _FLAGS)
_SLASHED = re.compile(
    rf"{_LEAD}(?<![\d/.-])(?P<month>\d{{1,2}})/(?P<day>\d{{1,2}})(?:/(?P<year>\d{{4}}|\d{{2}}))?(?![\d/]){_AFTER}",
    _FLAGS,
)
_DASHED = re.compile(rf"{_LEAD}(?<![\d-])(?P<month>\d{{2}})-(?P<day>\d{{2}})-(?P<year>\d{{4}})(?!\d){_AFTER}", _FLAGS)
_WEEKDAY_DAY = re.compile(
    rf"{_WEEKDAY}(?:[^\S\n]*,[^\S\n]*|[^\S\n]+|[^\S\n]*\()(?P<the>the[^\S\n]+|el[^\S\n]+)?{_DAY}", _FLAGS
)
_DAY_WEEKDAY = re.compile(rf"\bthe[^\S\n]+{_DAY}[^\S\n]*\((?P<after>{_alternatives(WEEKDAY_NUMBER)})\)", _FLAGS)
# "March 16, 17 and 18", "March 16-18": a further day of the same month.
_NEXT_DAY = re.compile(
    rf"[^\S\n]*(?:,[^\S\n]*(?:and|or|y|o)\b|,|&|\band\b|\bor\b|\by\b|[-–—]|\bto\b|\bthrough\b)[^\S\n]*(?:the[^\S\n]+)?"
    rf"(?:{_WEEKDAY}[^\S\n]*,?[^\S\n]*(?:the[^\S\n]+)?)?{_DAY}(?=[^\S\n]*(?:[,.;:)&–—-]|$|\n|and\b|or\b|y\b|to\b|through\b)|[^\S\n]+(?:are|work)|(?<=[a-z]))",
    _FLAGS,
)

_MERIDIEM = r"(?P<meridiem>[ap])\.?\s?m\b\.?"
_SPOKEN = (
    r"(?:o'clock\s+)?(?:in\s+the\s+(?P<part>morning|afternoon|evening)|(?:de|por)\s+la\s+(?P<parte>mañana|tarde|noche))"
)
_CLOCK = r"\d{1,2}(?::\d{2})?"
_CHAIN = re.compile(
    rf"(?<![\w:.$#/-])(?P<times>{_CLOCK}(?:\s*(?:,\s*(?:and|or|y|o)\b|,|-|–|—|/|&|\bto\b|\band\b|\bor\b|\by\b|\ba\b)\s*{_CLOCK})*)"
    rf"\s*(?:{_MERIDIEM}|{_SPOKEN})",
    _FLAGS,
)
# "1 - 8:00 AM" at the head of a line, "option 1 - 8 AM": a number of the list and no hour.
_NUMBERING = re.compile(r"(?m)(?:^[ \t]*|\b(?:option|slot|choice|number)[ \t]+)\d{1,2}[ \t]+[-–—][ \t]+(?=\d)", _FLAGS)
_NOON = re.compile(r"\b(?:noon|midday|mediodía|mediodia)\b", _FLAGS)
_TWENTY_FOUR = re.compile(r"(?<![\d:])(\d{1,2}):(\d{2})(?::\d{2})?(?![\d:])(?!\s*[ap]\.?\s?m\b)", _FLAGS)


@dataclass(frozen=True, slots=True)
class DateMention:
    """A date as written: what it does not say is None. `weekday` counts from Monday = 0."""

    day: int
    month: int | None
    year: int | None
    weekday: int | None
    start: int
    end: int

    def names(self, wanted: date) -> bool:
        """Whether it names this date; without a month, the weekday has to agree."""
        if self.day != wanted.day or self.year not in (None, wanted.year):
            return False
        return self.weekday == wanted.weekday() if self.month is None else self.month == wanted.month

    def contradicts(self, wanted: date) -> bool:
        """Whether it gives this date a weekday that it does not have."""
        same_day = self.day == wanted.day and self.month in (None, wanted.month) and self.year in (None, wanted.year)
        return same_day and self.weekday is not None and self.weekday != wanted.weekday()

    def resolve(self, today: date) -> date | None:
        """The date meant by somebody who speaks today; None when there is no such date or it is too vague."""
        if self.month is None:
            return None
        years = (
            [self.year]
            if self.year
            else sorted(range(today.year - 1, today.year + 2), key=lambda y: abs(y - today.year))
        )
        candidates = [found for year in years if (found := _real_date(year, self.month, self.day))]
        return min(candidates, key=lambda found: abs((found - today).days), default=None)


def readable(text: str) -> str:
    """The text as a person reads it: no emphasis marks, plain quotes and spaces, same line breaks."""
    for special, plain in (("\u00a0", " "), ("\u202f", " "), ("\u2009", " "), ("\u2019", "'"), ("\u2018", "'")):
        text = text.replace(special, plain)
    return text.replace("\u201c", '"').replace("\u201d", '"').replace("*", "").replace("`", "")


@lru_cache(maxsize=1024)
def find_dates(text: str) -> tuple[DateMention, ...]:
    """All dates in a readable text, in order."""
    taken: list[DateMention] = []
    for pattern in (_ISO, _DASHED, _MONTH_DAY, _DAY_MONTH, _SLASHED, _DAY_WEEKDAY, _WEEKDAY_DAY):
        for found in pattern.finditer(text):
            mention = _date_mention(found)
            if mention and not any(mention.start < other.end and other.start < mention.end for other in taken):
                taken.append(mention)
                if pattern is _MONTH_DAY:
                    taken += _following_days(text, mention)
    return tuple(sorted(taken, key=lambda mention: mention.start))


@lru_cache(maxsize=1024)
def find_times(text: str) -> frozenset[str]:
    """Every time of day that stands in 12-hour form (or as noon), as `HH:MM`."""
    text = _NUMBERING.sub(" ", _without_dates(text))
    times: set[str] = set()
    for found in _CHAIN.finditer(text):
        part = (found["part"] or found["parte"] or "").lower()
        afternoon = found["meridiem"].lower() == "p" if found["meridiem"] else part not in ("morning", "mañana")
        times |= set(_chain_times(found["times"], afternoon=afternoon))
    if _NOON.search(text):
        times.add("12:00")
    return frozenset(times)


def find_clock_times(text: str) -> set[str]:
    """Every time of day in either form, as `HH:MM`."""
    times = set(find_times(text))
    for hour, minute in _TWENTY_FOUR.findall(text):
        if int(hour) < 24 and int(minute) < 60:
            times.add(f"{int(hour):02d}:{minute}")
    return times


def _chain_times(chain: str, *, afternoon: bool) -> Iterator[str]:
    """Times that share one AM or PM: "8 and 10 AM", "9-11 AM"; in "10-1 PM" the first is before noon."""
    later: int | None = None
    for clock in reversed(re.findall(_CLOCK, chain)):
        hour, _, minute = clock.partition(":")
        if not 1 <= int(hour) <= 12 or int(minute or 0) > 59:
            return
        value = int(hour) % 12 * 60 + int(minute or 0)
        if later is not None and value > later:
            if not afternoon:
                return
            afternoon = False
        later = value
        value += 720 if afternoon else 0
        yield f"{value // 60:02d}:{value % 60:02d}"


def _without_dates(text: str) -> str:
    """The text with its dates blanked, so that no day of the month is read as an hour."""
    letters = list(text)
    for mention in find_dates(text):
        letters[mention.start : mention.end] = "#" * (mention.end - mention.start)
    return "".join(letters)


def _date_mention(found: re.Match[str]) -> DateMention | None:
    groups = found.groupdict()
    day = int(groups["day"])
    name = (groups.get("month") or "").lower()
    month = int(name) if name.isdigit() else MONTH_NUMBER.get(name)
    bare = not (groups.get("ordinal") or groups.get("of") or groups.get("the"))
    if found.re is _WEEKDAY_DAY and bare and day < 13:
        return None  # "Monday 8" is more likely an hour
    if found.re is _DAY_MONTH and bare and groups["month"] == "may":
        return None  # "8 or 10 may work"
    if found.re is _SLASHED and re.match(r"\s*(?:hours?|days?|inch|of\b|th\b)", found.string[found.end() :]):
        return None  # "1/2 hour"
    if not 1 <= day <= 31 or (month is not None and not 1 <= month <= 12):
        return None
    year = groups.get("year")
    weekday = groups.get("weekday") or groups.get("after")
    return DateMention(
        day=day,
        month=month,
        year=(int(year) + 2000 if len(year) == 2 else int(year)) if year else None,
        weekday=WEEKDAY_NUMBER[weekday.lower()] if weekday else None,
        start=found.start(),
        end=found.end(),
    )


def _following_days(text: str, first: DateMention) -> Iterator[DateMention]:
    last = first
    while (found := _NEXT_DAY.match(text, last.end)) and last.day < int(found["day"]) <= 31:
        weekday = found["weekday"]
        number = WEEKDAY_NUMBER[weekday.lower()] if weekday else None
        last = DateMention(int(found["day"]), first.month, first.year, number, found.start("day"), found.end())
        yield last


def _real_date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None
