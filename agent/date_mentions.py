"""Dates said in a text, resolved against today.

How weekdays are read (weeks start on Monday):

- "Friday", "this Friday", "coming Friday": the next one. The bare name of today's weekday means a week from today;
  "this" may mean today.
- "next Friday": the Friday of the next calendar week, also when the coming one is already in it.
- "a week from Friday", "Friday week": the coming Friday plus seven days. "last Friday": the latest one before today.
- Weekdays joined by "or"/"and"/"," share a week that one of them names: "next week thursday or friday".

A month that is over means next year's; a bare day number that is over ("the 5th") means next month's. A week is Monday
to Friday.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import pairwise
from typing import Literal

from agent.date_words import NumericDate, Token, lex, word_set

Relation = Literal["on", "before", "after", "from", "until", "not", "instead_of"]
Kind = Literal["day", "weekday", "range", "recurring_weekday"]

_NUMBER_FEW = 3


@dataclass(frozen=True, slots=True)
class DateMention:
    """A date, or a range of dates, and what the text says about it.

    `start` and `end` are inclusive and equal for a day. `relation` is how the wish stands to them ("before the 20th");
    "instead_of" marks the old date of a change ("move it from monday to tuesday"). For `recurring_weekday` ("mondays",
    "weekends") `weekdays` holds the days meant (Monday is 0) and start = end = the first of them after today.
    `weekday_differs` is set when a named weekday is not that of the date ("tuesday the 16th", the 16th being a Monday).
    """

    start: date
    end: date
    text: str
    span: tuple[int, int]
    kind: Kind
    past: bool
    relation: Relation = "on"
    weekdays: tuple[int, ...] = ()
    weekday_differs: bool = False

    def admits(self, day: date) -> bool:
        """Whether a day fits what was said."""
        named = self.kind == "recurring_weekday" or (self.kind == "weekday" and self.relation == "not")
        inside = day.weekday() in self.weekdays if named else self.start <= day <= self.end
        match self.relation:
            case "on":
                return inside
            case "not":
                return not inside
            case "before":
                return day < self.start
            case "after":
                return day > self.end
            case "from":
                return day >= self.start
            case "until":
                return day <= self.end
            case "instead_of":
                return True


@dataclass(frozen=True, slots=True)
class ImpossibleDate:
    """A date that no calendar has, such as "February 30"; `reason` is fit to be shown."""

    text: str
    span: tuple[int, int]
    reason: str


class _NoSuchDay(Exception):
    """Raised while reading a phrase whose date does not exist; the message says why."""


@dataclass(frozen=True, slots=True)
class _Core:
    """A date phrase without its relation: tokens first..last, and what a neighbour may still complete."""

    start: date
    end: date
    kind: Kind
    first: int = 0
    last: int = 0
    weekdays: tuple[int, ...] = ()
    differs: bool = False
    bare: Literal["", "weekday", "day"] = ""  # "friday" / "the 16th": takes week or month from a neighbour
    week: date | None = None  # Monday of the week that the phrase names
    month: tuple[int, int] | None = None  # (year, month) that the phrase names
    impossible: str = ""


def find_dates(text: str, today: date) -> list[DateMention | ImpossibleDate]:
    """Every date said in a text, in order of appearance."""
    tokens = lex(text)
    return [_mention(core, relation, text, tokens, today) for core, relation in _read(tokens, today)]


def date_tokens(tokens: Sequence[Token]) -> set[int]:
    """Indexes of the tokens that belong to dates; which day they mean does not matter here."""
    return {i for core, _ in _read(tokens, date(2024, 1, 1)) for i in range(core.first, core.last + 1)}


def _mention(
    core: _Core, relation: Relation, text: str, tokens: Sequence[Token], today: date
) -> DateMention | ImpossibleDate:
    span = (tokens[core.first].start, tokens[core.last].end)
    said = text[slice(*span)]
    if core.impossible:
        return ImpossibleDate(said, span, core.impossible)
    past = core.end < today and core.kind != "recurring_weekday"
    return DateMention(core.start, core.end, said, span, core.kind, past, relation, core.weekdays, core.differs)


def _read(tokens: Sequence[Token], today: date) -> list[tuple[_Core, Relation]]:
    reader = _Reader(tokens, today)
    cores = _with_shared_context(list(reader.cores()), tokens, today)
    cores = _shifted(cores, tokens, today)
    return list(_related(_joined(cores, tokens, today), tokens))


class _Reader:
    """Matches the phrase rules over the symbols of a text, longest first."""

    def __init__(self, tokens: Sequence[Token], today: date) -> None:
        self.tokens = tokens
        self.today = today
        self.stream = "".join(f"{token.symbol} " for token in tokens)
        self.offsets: list[int] = []
        at = 0
        for token in tokens:
            self.offsets.append(at)
            at += len(token.symbol) + 1
        self.index_of = {offset: i for i, offset in enumerate(self.offsets)} | {at: len(tokens)}

    def cores(self) -> Iterator[_Core]:
        i = 0
        while i < len(self.tokens):
            core = None if self.tokens[i].symbol in _NEVER_FIRST else self._longest(i)
            if core is None:
                i += 1
                continue
            yield core
            for further in self._further_days(core):
                yield (core := further)
            i = core.last + 1

    def _further_days(self, core: _Core) -> Iterator[_Core]:
        """The rest of "march 16, 17 or 18"."""
        while core.month and core.kind == "day" and not core.impossible:
            at = self.offsets[core.last + 1] if core.last + 1 < len(self.tokens) else len(self.stream)
            match = _FURTHER_DAY.match(self.stream, at)
            if match is None or not core.start.day < int(match[1]) <= _last_day(*core.month):
                return
            day, last = date(*core.month, int(match[1])), self.index_of[match.end()] - 1
            core = replace(core, start=day, end=day, first=last, last=last)
            yield core

    def _longest(self, i: int) -> _Core | None:
        matches = [(m, build) for rule, build in _RULES if (m := rule.match(self.stream, self.offsets[i]))]
        for match, build in sorted(matches, key=lambda pair: -pair[0].end()):
            last = self.index_of[match.end()] - 1
            try:
                core = build(match, self, i)
            except _NoSuchDay as reason:
                core = _Core(self.today, self.today, "day", impossible=str(reason))
            if core is not None:
                return replace(core, first=i, last=last)
        return None

    def symbol(self, i: int) -> str:
        return self.tokens[i].symbol if 0 <= i < len(self.tokens) else ""


_FURTHER_DAY = re.compile(r"(?:(?:, )?(?:OR |AND )|, (?=N\d+ (?:, )?(?:OR|AND) ))(?:THE )?N(\d+) (?!x |c |SPAN )")
_NEVER_FIRST = frozenset(
    {"x", "ok", "c", ",", ".", "-", "T", "AND", "OR", "OF", "ON", "AT", "PICK", "STREET", "TO", "DO", "CHANGE"}
)


# --- calendar arithmetic --------------------------------------------------------------------------------------------


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _add_months(year: int, month: int, count: int) -> tuple[int, int]:
    months = year * 12 + month - 1 + count
    return months // 12, months % 12 + 1


def _last_day(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]


def _day_of(year: int, month: int, day: int) -> date:
    """The date, or `_NoSuchDay` saying in plain words what is wrong with it."""
    if not 1 <= month <= 12:
        raise _NoSuchDay(f"there is no month {month}")
    if not 1 <= year <= 9998:
        raise _NoSuchDay(f"{year} is not a year of the calendar")
    if not 1 <= day <= _last_day(year, month):
        name = calendar.month_name[month]
        if month == 2 and day == 29:
            raise _NoSuchDay(f"{name} {year} has 28 days")
        most = "28 or 29" if month == 2 else str(_last_day(year, month))
        raise _NoSuchDay(f"{name} has {most} days")
    return date(year, month, day)


def _year_of_month(month: int, today: date) -> int:
    """A month that is over is next year's."""
    if not 1 <= month <= 12:
        raise _NoSuchDay(f"there is no month {month}")
    return today.year + (month < today.month)


def _coming(weekday: int, today: date, *, may_be_today: bool = False) -> date:
    ahead = (weekday - today.weekday()) % 7
    return today + timedelta(days=ahead or (0 if may_be_today else 7))


def _bare_day(day: int, today: date) -> date:
    """The coming "5th": this month's unless over, else that of the next month which has it."""
    if not 1 <= day <= 31:
        raise _NoSuchDay(f"no month has a day {day}")
    year, month = today.year, today.month
    while day > _last_day(year, month) or date(year, month, day) < today:
        year, month = _add_months(year, month, 1)
    return date(year, month, day)


def _days_after(day: date, count: int) -> date:
    try:
        return day + timedelta(days=count)
    except OverflowError as error:
        raise _NoSuchDay("that is beyond the calendar") from error


def _plus(day: date, count: int, unit: str) -> date:
    if unit == "MONTH":
        year, month = _add_months(day.year, day.month, count)
        if not 1 <= year <= 9998:
            raise _NoSuchDay("that is beyond the calendar")
        return date(year, month, min(day.day, _last_day(year, month)))
    return _days_after(day, count * {"DAY": 1, "WEEK": 7, "FORTNIGHT": 14, "YEAR": 365}[unit])


# --- builders: one per rule -----------------------------------------------------------------------------------------

_Build = Callable[[re.Match[str], _Reader, int], "_Core | None"]


def _number(said: str) -> int:
    """`N3`, `n3` -> 3; "a" and nothing -> 1; "a few" -> 3."""
    if said == "FEW":
        return _NUMBER_FEW
    return int(said[1:]) if said[1:] else 1


def _single(
    day: date, *, kind: Kind = "day", weekday: str | None = None, bare: Literal["", "weekday", "day"] = ""
) -> _Core:
    differs = weekday is not None and int(weekday) != day.weekday()
    return _Core(day, day, kind, differs=differs, bare=bare, month=None if bare else (day.year, day.month))


def _numeric_day(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    at = reader.index_of[match.start("date")]
    value = reader.tokens[at].value
    assert isinstance(value, NumericDate)
    if value.day is None:
        return None
    year = value.year if value.year is not None else _year_of_month(value.month, reader.today)
    return _single(_day_of(year, value.month, value.day), weekday=match["w"])


def _numeric_month(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    value = reader.tokens[i].value
    assert isinstance(value, NumericDate)
    _day_of(value.year or 0, value.month, 1)
    return _month_range(value.year or 0, value.month)


def _month_range(year: int, month: int, first: int = 1, last: int = 31) -> _Core:
    start = _day_of(year, month, first)
    end = date(year, month, min(last, _last_day(year, month)))
    return _Core(start, end, "range", month=(year, month))


def _named_day(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    month, day = int(match["m"]), int(match["d"])
    if day > 31 and reader.symbol(reader.index_of[match.end()]) in ("x", "c"):
        return None
    year = int(match["y"]) if match["y"] else _year_of_month(month, reader.today)
    return _single(_day_of(year, month, day), weekday=match.groupdict().get("w"))


def _named_days(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    """ "march 16-20", "16 to 20 march"."""
    month, year = int(match["m"]), int(match["y"]) if match["y"] else None
    year = year or _year_of_month(month, reader.today)
    start, end = _day_of(year, month, int(match["d"])), _day_of(year, month, int(match["e"]))
    return _Core(start, end, "range", month=(year, month)) if start <= end else None


def _day_of_relative_month(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    year, month = _relative_month(match["rel"], reader.today)
    return _single(_day_of(year, month, int(match["d"])), weekday=match.groupdict().get("w"))


def _relative_month(said: str, today: date) -> tuple[int, int]:
    steps = 1 if said in ("NEXT", "COMING") else -1 if said == "LAST" else 0
    return _add_months(today.year, today.month, steps)


def _ordinal_day(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    """ "the 16th", "monday the 16th"; not "the 2nd one" or "5th ave"."""
    day = int(match["d"])
    after = reader.symbol(reader.index_of[match.end()])
    if after == "STREET" or (after == "PICK" and day <= 10) or after == "c":
        return None
    return _single(_bare_day(day, reader.today), weekday=match["w"], bare="day")


def _spelt_day(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    """ "the sixteenth", "on the fifth": low ordinals are list picks unless "on" stands before."""
    day = int(match["d"])
    after = reader.symbol(reader.index_of[match.end()])
    if after in ("PICK", "STREET", "n1", "x", "OF", "WEEK", "W", "c") or (day < 11 and reader.symbol(i - 1) != "ON"):
        return None
    return _single(_bare_day(day, reader.today), weekday=match["w"], bare="day")


def _plain_number_day(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    """ "on the 16", "the 20", "friday 13": a number too large for an hour or a pick, or one that "on the" precedes."""
    day, before = int(match["d"]), reader.symbol(i - 1)
    after = reader.symbol(reader.index_of[match.end()])
    if (
        after in ("x", "c", "SPAN", "DAY", "WEEK", "MONTH", "STREET", "PICK", "PART0", "OCLOCK", "ISH")
        or after[:4] == "PART"
    ):
        return None
    if not (12 < day <= 31 or (before == "ON" and 1 <= day <= 12 and match["w"] is None)):
        return None
    if match["w"] is not None and "THE" not in match[0] and day <= 12:
        return None
    return _single(_bare_day(day, reader.today), weekday=match["w"], bare="day")


def _named_month(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    month = int(match["m"])
    year = int(match["y"]) if match["y"] else _year_of_month(month, reader.today)
    if match["rel"] == "NEXT" and not match["y"] and month == reader.today.month:
        year += 1
    if match["rel"] == "LAST" and not match["y"]:
        year = reader.today.year - (month >= reader.today.month)
    return _part_of_month(year, month, match["part"] or "")


def _unnamed_month(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    year, month = _relative_month(match["rel"] or "THIS", reader.today)
    if not match["part"]:
        return _month_range(year, month) if match["rel"] else None
    return _part_of_month(year, month, match["part"])


def _part_of_month(year: int, month: int, said: str) -> _Core:
    last = _last_day(year, month)
    match said.split():
        case ["END", *_]:
            return _month_range(year, month, last - 6)
        case ["LATE", *_]:
            return _month_range(year, month, 21)
        case ["EARLY" | "START", *_]:
            return _month_range(year, month, 1, 10)
        case ["MID", *_]:
            return _month_range(year, month, 11, 20)
        case ["o1", "HALF", *_]:
            return _month_range(year, month, 1, 15)
        case ["o2", "HALF", *_]:
            return _month_range(year, month, 16)
    return _month_range(year, month)


def _week_of_month(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    year, month = _month_of_match(match, reader)
    last = _last_day(year, month)
    if match["nth"] == "LAST":
        return _month_range(year, month, last - 6)
    nth = int(match["nth"][1:])
    if not 1 <= nth <= 5 or 7 * nth - 6 > last:
        raise _NoSuchDay(f"{calendar.month_name[month]} has no week {nth}")
    return _month_range(year, month, 7 * nth - 6, 7 * nth)


def _weekday_of_month(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    year, month = _month_of_match(match, reader)
    weekday = int(match["w"])
    days = [d for d in range(1, _last_day(year, month) + 1) if date(year, month, d).weekday() == weekday]
    nth = -1 if match["nth"] == "LAST" else int(match["nth"][1:]) - 1
    if nth >= len(days):
        raise _NoSuchDay(f"{calendar.month_name[month]} has only {len(days)} {calendar.day_name[weekday]}s")
    return _single(date(year, month, days[nth]))


def _month_of_match(match: re.Match[str], reader: _Reader) -> tuple[int, int]:
    if match["m"]:
        month = int(match["m"])
        return (int(match["y"]) if match["y"] else _year_of_month(month, reader.today)), month
    return _relative_month(match["rel"] or "THIS", reader.today)


def _weekday(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    weekday, said, today = int(match["w"]), match["rel"] or "", reader.today
    if said == "LAST":
        back = (today.weekday() - weekday) % 7 or 7
        return _on_weekday(today - timedelta(days=back))
    if said == "NEXT":
        return _on_weekday(_monday(today) + timedelta(days=7 + weekday), anchored=True)
    if said in ("THIS", "THIS COMING"):
        return _on_weekday(_coming(weekday, today, may_be_today=said == "THIS"))
    return _on_weekday(_coming(weekday, today), bare=not said)


def _on_weekday(day: date, *, anchored: bool = False, bare: bool = False) -> _Core:
    week = _monday(day) if anchored else None
    return _Core(day, day, "weekday", weekdays=(day.weekday(),), bare="weekday" if bare else "", week=week)


def _weekday_in_week(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    """ "next week tuesday", "tuesday next week", "tuesday of the week after next", "the monday after next"."""
    said = match.groupdict().get("rel") or "NEXT NEXT"
    weeks = {"THIS": 0, "LAST": -1, "NEXT NEXT": 2}.get(said, 1)
    return _on_weekday(_monday(reader.today) + timedelta(days=7 * weeks + int(match["w"])), anchored=True)


def _weekday_week(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    return _single(_coming(int(match["w"]), reader.today) + timedelta(days=7))


def _weekdays(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    days = {"WEEKDAYS": (0, 1, 2, 3, 4), "WEEKENDS": (5, 6), "WEEKEND": (5, 6)}.get(match["p"]) or (
        int(match["p"][-1]),
    )
    first = min(_coming(day, reader.today) for day in days)
    return _Core(first, first, "recurring_weekday", weekdays=days)


def _week(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    said, part = match["rel"] or "THIS", match["part"] or ""
    weeks = {"THIS": 0, "LAST": -1}.get(said, 1) + ("AFTER" in match[0])
    if not match["rel"] and not part:
        return None
    monday = _monday(reader.today) + timedelta(days=7 * weeks)
    first, last = {"EARLY": (0, 1), "START": (0, 1), "MID": (1, 3), "LATE": (3, 4), "END": (3, 4)}.get(
        part.split(" ")[0], (0, 4)
    )
    return _Core(monday + timedelta(days=first), monday + timedelta(days=last), "range", week=monday)


def _rest(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    today = reader.today
    if match["unit"] == "WEEK":
        end, week = _monday(today) + timedelta(days=4), _monday(today)
        return (
            _Core(min(today, end), end, "range", week=week) if today <= end else _Core(today, today, "range", week=week)
        )
    return _Core(today, date(today.year, today.month, _last_day(today.year, today.month)), "range")


def _weekend(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    weeks = {"LAST": -1, "NEXT": 1, "NEXT NEXT": 2}.get(match["rel"] or "", 0)
    saturday = _monday(reader.today) + timedelta(days=5 + 7 * weeks)
    return _Core(saturday, saturday + timedelta(days=1), "range", week=_monday(saturday))


def _weekend_after_next(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    saturday = _monday(reader.today) + timedelta(days=19)
    return _Core(saturday, saturday + timedelta(days=1), "range", week=_monday(saturday))


def _year(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    year = reader.today.year + {"NEXT": 1, "COMING": 1, "LAST": -1}.get(match["rel"], 0)
    return _Core(date(year, 1, 1), date(year, 12, 31), "range")


def _relative_day(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    days = {"TODAY": 0, "TONIGHT": 0, "NOW": 0, "TOMORROW": 1, "OVERMORROW": 2, "YESTERDAY": -1, "EREYESTERDAY": -2}
    return _single(reader.today + timedelta(days=days[match["word"]]))


def _today_part(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    return _single(reader.today)


def _ahead(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    """ "in 3 days", "2 weeks from now", "in 2 to 3 weeks", "in a few days"."""
    count, unit, today = _number(match["n"]), match["unit"], reader.today
    if match["n"].startswith("FEW"):
        most = 5 if unit == "DAY" else 4
        return _Core(_plus(today, 2, unit), _plus(today, most, unit), "range")
    upper = match.groupdict().get("upper")
    if upper:
        return _Core(_plus(today, count, unit), _plus(today, max(count, _number(upper)), unit), "range")
    return _single(_plus(today, count, unit))


def _ago(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    return _single(_plus(reader.today, -_number(match["n"]), match["unit"]))


def _within(match: re.Match[str], reader: _Reader, i: int) -> _Core | None:
    """ "within two weeks", "in the next 10 days"."""
    count = 5 if match["n"].startswith("FEW") and match["unit"] == "DAY" else _number(match["n"])
    return _Core(reader.today, _plus(reader.today, count, match["unit"]), "range")


# --- rules ----------------------------------------------------------------------------------------------------------

_YEAR = r"(?:(?:, |- )?(?:OF )?Y(?P<y>\d+) )?"
_WEEKDAY = r"(?:(?:THE )?(?:THIS |NEXT |COMING )?W(?P<w>\d) (?:, )?(?:- )?)?"
_DAY = r"[NOo](?P<d>\d+) "
_LAST_DAY = r"(?:THE )?[NO](?P<e>\d+) "
_TILL = r"(?:- |TO |UNTIL |AND )"
_COUNT = r"(?P<n>[Nn]\d+|A|FEW) "
_UNIT = r"(?P<unit>DAY|WEEK|MONTH|FORTNIGHT|YEAR) "
_REL = r"(?P<rel>THIS|NEXT|COMING|LAST) "
_THE_MONTH = rf"(?:OF |IN )?(?:M(?P<m>\d+) {_YEAR}|(?:THE )?(?:{_REL})?MONTH )"
_PART = r"(?:THE )?(?P<part>EARLY|MID|LATE|END|START|o[12] HALF) (?:- )?(?:PART )?(?:IN |OF )?(?:THE )?"
_NTH = r"(?:THE )?(?P<nth>[oO]\d+|LAST) "
_WEEK = r"(?P<rel>THIS|NEXT|COMING|LAST) (?:COMING )?WEEK "

_TABLE: tuple[tuple[str, _Build], ...] = (
    (rf"{_WEEKDAY}(?:THE )?(?P<date>DATE) ", _numeric_day),
    (r"MONTHOF ", _numeric_month),
    (rf"{_WEEKDAY}(?:THE )?M(?P<m>\d+) (?:THE )?{_DAY}{_YEAR}", _named_day),
    (rf"{_WEEKDAY}(?:THE )?{_DAY}(?:DAY )?(?:- )?(?:OF )?M(?P<m>\d+) {_YEAR}", _named_day),
    (rf"M(?P<m>\d+) - N(?P<d>\d+) {_YEAR}", _named_day),
    (rf"(?:FROM )?M(?P<m>\d+) (?:THE )?[NO](?P<d>\d+) {_TILL}{_LAST_DAY}{_YEAR}", _named_days),
    (rf"(?:FROM |BETWEEN )?(?:THE )?[NO](?P<d>\d+) {_TILL}{_LAST_DAY}(?:OF )?M(?P<m>\d+) {_YEAR}", _named_days),
    (rf"{_WEEKDAY}(?:THE )?{_DAY}OF (?:THE )?{_REL}MONTH ", _day_of_relative_month),
    (rf"{_WEEKDAY}(?:THE )?{_DAY}OF (?:EVERY |THE )?(?P<rel>MONTH) ", _day_of_relative_month),
    (rf"{_REL}MONTH (?:, )?(?:ON )?(?:THE )?{_DAY}", _day_of_relative_month),
    (rf"{_WEEKDAY}(?:THE )?O(?P<d>\d+) ", _ordinal_day),
    (rf"{_WEEKDAY}THE o(?P<d>\d+) ", _spelt_day),
    (rf"{_WEEKDAY}THE N(?P<d>\d+) ", _plain_number_day),
    (r"(?:THE )?W(?P<w>\d) N(?P<d>\d+) ", _plain_number_day),
    (rf"(?:{_PART})?(?:(?P<rel>THIS|NEXT|COMING|LAST) )?M(?P<m>\d+) {_YEAR}", _named_month),
    (rf"(?:{_PART})?(?:(?:THE )?{_REL})?MONTH ", _unnamed_month),
    (rf"{_NTH}WEEK {_THE_MONTH}", _week_of_month),
    (rf"{_NTH}W(?P<w>\d) {_THE_MONTH}", _weekday_of_month),
    (r"(?:THE )?(?:(?P<rel>THIS COMING|THIS|NEXT|COMING|LAST) )?W(?P<w>\d) ", _weekday),
    (r"(?:THE )?W(?P<w>\d) (?P<rel>NEXT|LAST|COMING) ", _weekday),
    (rf"{_WEEK}(?:, )?(?:- )?(?:ON )?W(?P<w>\d) ", _weekday_in_week),
    (rf"(?:THE )?W(?P<w>\d) (?:, )?(?:IN |OF )?(?:THE )?{_WEEK}", _weekday_in_week),
    (r"(?:THE )?W(?P<w>\d) (?:, )?(?:IN |OF )?(?:THE )?WEEK AFTER (?:THE )?NEXT ", _weekday_in_week),
    (r"(?:THE )?W(?P<w>\d) (?:IN |OF )?(?:THE )?WEEK (?P<rel>COMING) ", _weekday_in_week),
    (r"(?:THE )?W(?P<w>\d) AFTER NEXT ", _weekday_in_week),
    (r"(?:A WEEK ON )?W(?P<w>\d) WEEK ", _weekday_week),
    (r"A WEEK (?:ON )?W(?P<w>\d) ", _weekday_week),
    (r"(?:EVERY |A )?(?P<p>P\d|WEEKDAYS|WEEKENDS) ", _weekdays),
    (r"(?:EVERY |A )W(?P<p>\d) ", _weekdays),
    (r"THE W(?P<p>[56]) (?=ok P)", _weekdays),
    (r"A (?P<p>WEEKEND) (?:DAY )?", _weekdays),
    (rf"(?:{_PART})?(?:(?:THE )?(?P<rel>THIS|NEXT|COMING|LAST) (?:COMING )?)?WEEK ", _week),
    (rf"(?:{_PART})?(?:THE )?WEEK (?P<rel>COMING) ", _week),
    (r"(?:THE )?(?P<part>)WEEK AFTER (?:THE )?(?P<rel>NEXT)(?: WEEK)? ", _week),
    (r"(?:THE )?REST OF (?:THE |THIS )?(?P<unit>WEEK|MONTH) ", _rest),
    (r"LATERIN (?:IN )?(?:THE |THIS )?(?P<unit>WEEK|MONTH) ", _rest),
    (r"(?:THE )?(?:(?P<rel>THIS|NEXT|COMING|LAST) (?:COMING )?)?WEEKEND ", _weekend),
    (r"(?:THE )?(?P<rel>)WEEKEND AFTER (?:THE )?NEXT ", _weekend_after_next),
    (rf"{_REL}YEAR ", _year),
    (r"(?P<word>TODAY|TONIGHT|TOMORROW|OVERMORROW|YESTERDAY|EREYESTERDAY) ", _relative_day),
    (r"THIS (?=(?:EARLY |MID |LATE )?(?:- )?PART)", _today_part),
    (rf"IN {_COUNT}(?:OF )?{_UNIT}", _ahead),
    (rf"IN (?P<n>[Nn]\d+) (?:- |TO |OR )(?P<upper>[Nn]\d+) {_UNIT}", _ahead),
    (rf"{_COUNT}{_UNIT}FROM (?:TODAY|NOW) ", _ahead),
    (rf"{_COUNT}{_UNIT}AGO ", _ago),
    (rf"WITHIN (?:THE )?(?:NEXT |COMING )?{_COUNT}{_UNIT}", _within),
    (rf"(?:IN )?(?:THE )?(?:NEXT |COMING ){_COUNT}{_UNIT}", _within),
    (rf"WITHIN (?P<n>)(?:THE |A )?{_UNIT}", _within),
)
_RULES: tuple[tuple[re.Pattern[str], _Build], ...] = tuple((re.compile(pattern), build) for pattern, build in _TABLE)


# --- neighbours -----------------------------------------------------------------------------------------------------

_JOINING = re.compile(r"(?:(?:, )?(?:AND |OR |- |TO |UNTIL )|, )(?:ON |THE |FOR |NOT |MAYBE |ok )*$")


def _gap(tokens: Sequence[Token], left: _Core, right: _Core) -> str:
    return "".join(f"{token.symbol} " for token in tokens[left.last + 1 : right.first])


def _with_shared_context(cores: list[_Core], tokens: Sequence[Token], today: date) -> list[_Core]:
    """Share week and month: "next week thursday or friday", "the 16th or 17th of april"."""
    shared = list(cores)
    for i, core in enumerate(shared):
        before = shared[i - 1] if i else None
        joined = before is not None and bool(_JOINING.match(_gap(tokens, before, core)))
        week_named = next((c.week for c in reversed(shared[:i]) if c.kind == "range" and c.week), None)
        if core.bare == "weekday" and (week_named or (joined and before and before.week)):
            shared[i] = _in_week(core, (before.week if joined and before and before.week else week_named) or today)
        elif core.bare == "day" and joined and before and before.month and before.kind in ("day", "range"):
            shared[i] = _in_month(core, before.month, before.start)
    for i in range(len(shared) - 2, -1, -1):
        core, after = shared[i], shared[i + 1]
        if not _JOINING.match(_gap(tokens, core, after)):
            continue
        if core.bare == "weekday" and after.week and after.kind == "weekday":
            shared[i] = _in_week(core, after.week)
        elif core.bare == "day" and after.month and after.kind == "day":
            shared[i] = _in_month(core, after.month, date.min)
    return shared


def _in_week(core: _Core, monday: date) -> _Core:
    day = monday + timedelta(days=core.weekdays[0])
    return replace(core, start=day, end=day, week=monday, bare="")


def _in_month(core: _Core, month: tuple[int, int], not_before: date) -> _Core:
    if core.impossible:
        return core
    year, number = month
    try:
        day = _day_of(year, number, core.start.day)
        if day < not_before:
            day = _day_of(*_add_months(year, number, 1), core.start.day)
    except _NoSuchDay as reason:
        return replace(core, impossible=str(reason))
    return replace(core, start=day, end=day, bare="", month=(day.year, day.month))


_SHIFT = re.compile(
    r"(?:^| )(?:(?P<n>[Nn]\d+|A|FEW) )?(?:THE )?(?P<unit>DAY|WEEK|MONTH|FORTNIGHT|WEEKEND) "
    r"(?P<way>FROM|AFTER|BEFORE|OF|ON) (?:THE )?$"
)


def _shifted(cores: list[_Core], tokens: Sequence[Token], today: date) -> list[_Core]:
    """ "a week from friday", "the day after the 16th", "two days before monday", "the week of march 16"."""
    shifted = []
    for k, core in enumerate(cores):
        floor = max(core.first - 6, cores[k - 1].last + 1 if k else 0)
        lead = tokens[floor : core.first]
        match = _SHIFT.search(" " + "".join(f"{token.symbol} " for token in lead))
        if (
            match is None
            or core.impossible
            or (match["way"] in ("OF", "ON") and match["unit"] not in ("WEEK", "WEEKEND"))
        ):
            shifted.append(core)
            continue
        length = len(match[0].split())
        shifted.append(replace(_shift(core, match), first=core.first - length))
    return shifted


def _shift(core: _Core, match: re.Match[str]) -> _Core:
    unit, way, number = match["unit"], match["way"], match["n"]
    sign = -1 if way == "BEFORE" else 1
    if way == "ON" and number:
        return replace(_single(_plus(core.start, 7 * _number(number), "DAY")), last=core.last)
    if unit == "WEEKEND" or (unit == "WEEK" and not number):
        weeks = 0 if way in ("OF", "ON") else sign
        monday = _monday(core.start) + timedelta(days=7 * weeks)
        days = (5, 6) if unit == "WEEKEND" else (0, 4)
        start, end = (monday + timedelta(days=n) for n in days)
        return _Core(start, end, "range", last=core.last, week=monday)
    base = core.end if sign > 0 else core.start
    return replace(_single(_plus(base, sign * _number(number or "A"), unit)), last=core.last)


_RANGE_GAP = re.compile(r"(?:, )?(?:- |TO |UNTIL )(?:ON |THE )*$")
_SAME_DAY_GAP = re.compile(r"(?:, |- )?$")


def _joined(cores: list[_Core], tokens: Sequence[Token], today: date) -> list[tuple[_Core, str]]:
    """Make one core of "A to B", "between A and B" and "3/16 (monday)".

    The string notes what was joined: "span" for a range, "old" for the first date of a change, else "".
    """
    out: list[tuple[_Core, str]] = []
    for core in cores:
        left = out[-1][0] if out else None
        if left is None or left.impossible or core.impossible:
            out.append((core, ""))
            continue
        gap = _gap(tokens, left, core)
        before = [token.symbol for token in tokens[max(0, left.first - 3) : left.first]]
        changing = any(token.symbol == "CHANGE" for token in tokens[: left.first])
        if _RANGE_GAP.match(gap) and left.kind != "recurring_weekday":
            if changing and "- " not in gap:
                out[-1] = (left, "old")
                out.append((core, ""))
            else:
                out[-1] = (_span_of(left, core), "span")
        elif re.fullmatch(r"AND (?:ON |THE )*", gap) and "BETWEEN" in before:
            out[-1] = (_span_of(left, core), "span")
        elif core.bare == "weekday" and left.kind == "day" and _SAME_DAY_GAP.match(gap):
            out[-1] = (replace(left, last=core.last, differs=left.start.weekday() != core.weekdays[0]), out[-1][1])
        else:
            out.append((core, ""))
    return out


def _span_of(left: _Core, right: _Core) -> _Core:
    end = right.end
    if end < left.start:
        if right.bare == "weekday" or right.kind == "weekday":
            end = _coming(right.weekdays[0], left.start)
        elif right.bare == "day":
            return replace(
                _span_of(left, _in_month(right, (left.start.year, left.start.month), left.start)), first=left.first
            )
        else:
            end = _plus(end, 1, "YEAR") if end.month != 2 or end.day != 29 else end
    if right.impossible:
        return replace(right, first=left.first)
    return _Core(min(left.start, end), max(left.start, end), "range", left.first, right.last)


# --- relations ------------------------------------------------------------------------------------------------------

_RELATIONS: dict[str, Relation] = {
    "BEFORE": "before",
    "AFTER": "after",
    "SINCE": "from",
    "START": "from",
    "FROM": "from",
    "UNTIL": "until",
    "INSTEAD": "instead_of",
    "NOT": "not",
    "NO": "not",
    "NEG": "not",
}
_PASSED_OVER = frozenset({"ON", "THE", "FOR", "DO", "AT", "EVERY"})
_REFUSED_AFTER = re.compile(r"(?:, )?(?:ok )?(?:NEG|NOT|NO) (?!ok (?:to|so|W|it))")


def _related(cores: list[tuple[_Core, str]], tokens: Sequence[Token]) -> Iterator[tuple[_Core, Relation]]:
    changing = any(token.symbol == "CHANGE" for token in tokens)
    previous: Relation = "on"
    for k, (core, note) in enumerate(cores):
        relation = _relation(core, note, tokens, changing=changing)
        left = cores[k - 1][0] if k else None
        if (
            relation == "on"
            and left
            and previous == "not"
            and re.fullmatch(r"(?:, )?(?:OR |AND )(?:ON )?", _gap(tokens, left, core))
        ):
            relation = "not"
        if (
            relation == "not"
            and core.kind == "weekday"
            and core.first
            and tokens[core.first - 1].word.startswith(("any ", "every "))
        ):
            core = replace(core, kind="recurring_weekday")
        previous = relation
        yield core, relation


def _relation(core: _Core, note: str, tokens: Sequence[Token], *, changing: bool) -> Relation:
    if note == "old":
        return "instead_of"
    after = tokens[core.last + 1].symbol if core.last + 1 < len(tokens) else ""
    if after in ("LATER", "ONWARD"):
        return "from"
    if after == "EARLIER":
        return "until"
    i = core.first - 1
    while i >= 0 and (tokens[i].symbol in _PASSED_OVER or tokens[i].word == "it"):
        i -= 1
    symbol = tokens[i].symbol if i >= 0 else ""
    if symbol in ("FROM", "BETWEEN") and note == "span":
        return "on"
    if symbol == "FROM" and changing:
        return "instead_of"
    # "no friday" opens a correction ("no, friday"); "no fridays", "no weekends" refuses.
    if symbol == "NO" and i == 0 and core.kind == "weekday":
        return "on"
    if symbol in _RELATIONS:
        return _RELATIONS[symbol]
    rest = "".join(f"{token.symbol} " for token in tokens[core.last + 1 : core.last + 4])
    return "not" if core.kind != "range" and _REFUSED_AFTER.match(rest) and _refuses(tokens, core) else "on"


def _refuses(tokens: Sequence[Token], core: _Core) -> bool:
    """ "friday doesn't work", "friday is no good": a negation after the date, not one that opens the next clause."""
    said = [token.word for token in tokens[core.last + 1 : core.last + 5]]
    return any(word in _NEGATIONS and follow in _FIT_WORDS for word, follow in pairwise(said))


_NEGATIONS = word_set("doesn't doesnt won't wont isn't isnt can't cant not no don't dont")
_FIT_WORDS = word_set("work works good great ok okay fine possible free available suit do fit puedo")
