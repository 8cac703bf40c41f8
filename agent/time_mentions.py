"""Times of day said in a text: points ("half past ten") and windows ("after 2", "early afternoon", "between 1 and 3").

Parts of the day: morning before 12:00, afternoon 12:00 to 17:00, evening from 17:00. An hour without am or pm has two
readings; the one inside working hours comes first (7 to 11 before noon, 12 to 6 after it). A bare number is a time only
where one was asked for, hence `explicit`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import time
from typing import Literal

from agent.date_mentions import date_tokens
from agent.date_words import Clock, Token, lex

START_OF_DAY, NOON, END_OF_DAY = time(0), time(12), time.max
_PARTS = ((START_OF_DAY, NOON), (NOON, time(17)), (time(17), END_OF_DAY))
_EARLY_PARTS = ((START_OF_DAY, time(9)), (NOON, time(14, 30)), (time(17), time(19)))
_MID_PARTS = ((time(9), time(11, 30)), (time(14), time(16)), (time(18, 30), time(20, 30)))
_MID_HOURS = (time(10), time(15), time(19))
_LATE_PARTS = ((time(10), NOON), (time(15), time(17)), (time(20), END_OF_DAY))

Relation = Literal["at", "not", "instead_of"]


@dataclass(frozen=True, slots=True)
class TimeMention:
    """A time of day, or a window [start, end) of it; `END_OF_DAY` as end takes in the whole evening.

    `candidates` are the possible readings of a point, likeliest first (one when am or pm is clear); of a window, the
    hour it is about ("mid-morning": 10:00), if any. `explicit` is false for a bare number ("8 please"): use it only
    where a time is expected. `relation` is "not" for a refused time ("no mornings") and "instead_of" for the old one of
    a change ("move it from 10 to 1").
    """

    start: time
    end: time
    text: str
    span: tuple[int, int]
    kind: Literal["point", "window"]
    preference: Literal["earliest", "latest", "none"] = "none"
    explicit: bool = True
    candidates: tuple[time, ...] = ()
    relation: Relation = "at"

    def admits(self, moment: time) -> bool:
        """Whether a time fits what was said."""
        if self.relation == "instead_of":
            return True
        inside = moment in self.candidates if self.kind == "point" else self.start <= moment < self.end
        return inside != (self.relation == "not")


@dataclass(frozen=True, slots=True)
class _Point:
    readings: tuple[time, ...]
    explicit: bool

    @property
    def first(self) -> time:
        return self.readings[0]


@dataclass(frozen=True, slots=True)
class _Found:
    start: time
    end: time
    preference: Literal["earliest", "latest", "none"] = "none"
    explicit: bool = True
    candidates: tuple[time, ...] = ()
    relation: Relation = "at"
    first: int = 0
    last: int = 0


def find_times(text: str) -> list[TimeMention]:
    """Every time of day said in a text, in order of appearance; digits that belong to dates are left alone."""
    reader = _Reader(lex(text))
    mentions = []
    for found in _without_doubles(reader.found()):
        tokens = reader.tokens
        span = (tokens[found.first].start, tokens[found.last].end)
        kind: Literal["point", "window"] = "point" if found.start == found.end else "window"
        mentions.append(
            TimeMention(
                found.start,
                found.end,
                text[slice(*span)],
                span,
                kind,
                found.preference,
                found.explicit,
                found.candidates,
                found.relation,
            )
        )
    return mentions


class _Reader:
    """Matches the time rules over the symbols of a text, longest first; dates are one symbol `D` each."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        dated = date_tokens(tokens)
        # A part of the day inside a date phrase ("this morning", "tonight") is a time as well.
        self.tokens = [
            replace(token, symbol="D") if i in dated and not _is_part(token) else token
            for i, token in enumerate(tokens)
        ]
        self.symbols = [token.symbol for token in self.tokens]
        self.stream = "".join(f"{symbol} " for symbol in self.symbols)
        self.offsets: list[int] = []
        at = 0
        for symbol in self.symbols:
            self.offsets.append(at)
            at += len(symbol) + 1
        self.index_of = {offset: i for i, offset in enumerate(self.offsets)} | {at: len(tokens)}
        self.changing = "CHANGE" in self.symbols

    def found(self) -> list[_Found]:
        out: list[_Found] = []
        i = 0
        while i < len(self.tokens):
            matches = [] if self.symbols[i] in _NEVER_FIRST else self._longest(i)
            out += matches
            i = matches[-1].last + 1 if matches else i + 1
        return out

    def _longest(self, i: int) -> list[_Found]:
        candidates = [(m, build) for rule, build in _RULES if (m := rule.match(self.stream, self.offsets[i]))]
        for match, build in sorted(candidates, key=lambda pair: -pair[0].end()):
            last = self.index_of[match.end()] - 1
            found = build(match, self)
            if found:
                relation = self._relation(i, last)
                return [
                    replace(
                        f,
                        first=f.first or i,
                        last=f.last or last,
                        relation=relation if f.relation == "at" else f.relation,
                    )
                    for f in found
                ]
        return []

    def _relation(self, first: int, last: int) -> Relation:
        i = first - 1
        while i >= 0 and self.symbols[i] in _PASSED_OVER:
            i -= 1
        before = self.symbols[i] if i >= 0 else ""
        if before == "INSTEAD" or (before == "FROM" and self.changing):
            return "instead_of"
        plural = self.tokens[last].word.endswith("s")
        if before in ("NOT", "NEG") or (before == "NO" and (i > 0 or plural)):
            return "not"
        return "at"

    def symbol(self, i: int) -> str:
        return self.symbols[i] if 0 <= i < len(self.symbols) else ""

    def point(self, match: re.Match[str], name: str) -> _Point | None:
        """The point in group `name`, or None when its digits cannot be a time of day."""
        if match[name] is None:
            return None
        i = self.index_of[match.start(name)]
        symbols = match[name].split()
        return _read_point(symbols, self.tokens[i : i + len(symbols)])


def _is_part(token: Token) -> bool:
    return token.symbol.startswith("PART") or token.symbol == "TONIGHT" or (token.symbol in ("EARLY", "LATE", "MID"))


_NEVER_FIRST = frozenset({"x", "c", ",", ".", "D", "OR", "AND", "ok", "STREET"})
_PASSED_OVER = frozenset({"ON", "THE", "FOR", "DO", "AT", "IN", "EVERY", "AROUND"})


# --- points ---------------------------------------------------------------------------------------------------------


def _readings(hour: int, minute: int) -> tuple[time, ...]:
    """Both halves of the day, working hours first; 13 to 23 and 0 have one reading."""
    if hour > 12 or hour == 0:
        return (time(hour, minute),)
    morning, later = time(hour % 12, minute), time(hour % 12 + 12, minute)
    return (morning, later) if 7 <= hour <= 11 else (later, morning)


def _clock_readings(clock: Clock) -> tuple[time, ...]:
    if clock.exact or clock.hour > 12:
        return (time(clock.hour, clock.minute),)
    if clock.meridiem:
        return (time(clock.hour % 12 + (12 if clock.meridiem == "pm" else 0), clock.minute),)
    return _readings(clock.hour, clock.minute)


def _read_point(symbols: Sequence[str], tokens: Sequence[Token]) -> _Point | None:
    explicit = False
    readings: tuple[time, ...] = ()
    part: int | None = None
    shift = 0
    for symbol, token in zip(symbols, tokens, strict=True):
        if isinstance(token.value, Clock):
            readings, explicit = _clock_readings(token.value), True
        elif symbol in ("NOON", "MIDNIGHT"):
            readings, explicit = (NOON if symbol == "NOON" else START_OF_DAY,), True
        elif symbol == "H":
            readings, explicit = _four_digits(int(str(token.value))), True
        elif symbol in ("HALF", "QUARTER", "HALFMORE", "QUARTERMORE"):
            shift, explicit = (15 if symbol.startswith("QUARTER") else 30), True
        elif symbol in ("TO", "UNTIL", "OF", "BEFORE") and shift:
            shift = -shift
        elif symbol in ("OCLOCK", "SHARP", "ISH"):
            explicit = True
        elif symbol in ("TONIGHT",) or symbol.startswith("PART"):
            part, explicit = (2 if symbol == "TONIGHT" else int(symbol[4:])), True
        elif symbol[0] in "Nn" and symbol[1:].isdigit():
            number = int(symbol[1:])
            if readings:  # "ten thirty"
                readings = tuple(r.replace(minute=number) for r in readings) if number in (15, 20, 30, 45) else ()
                explicit = True
            elif number < 24:
                readings = _readings(number, 0)
    if not readings:
        return None
    readings = tuple(_minutes_later(reading, shift) for reading in readings)
    if part is not None:
        readings = tuple(r for r in readings if _in_part(r, part)) or readings[:1]
    return _Point(readings, explicit)


def _in_part(moment: time, part: int) -> bool:
    return moment < NOON if part == 0 else moment >= NOON


def _four_digits(number: int) -> tuple[time, ...]:
    hour, minute = divmod(number, 100)
    return _readings(hour, minute) if hour < 24 and minute < 60 else ()


def _minutes_later(moment: time, minutes: int) -> time:
    total = (moment.hour * 60 + moment.minute + minutes) % (24 * 60)
    return time(total // 60, total % 60)


# --- builders -------------------------------------------------------------------------------------------------------

_Build = Callable[[re.Match[str], _Reader], "list[_Found]"]


def _as_found(point: _Point) -> _Found:
    return _Found(point.first, point.first, explicit=point.explicit, candidates=point.readings)


def _one(match: re.Match[str], reader: _Reader) -> list[_Found]:
    point = reader.point(match, "p")
    if point is None:
        return []
    if not point.explicit and not _stands_alone(match, reader):
        return []
    led = match[0].split()[0] in ("AT", "AROUND")
    return [_as_found(replace(point, explicit=point.explicit or led))]


def _stands_alone(match: re.Match[str], reader: _Reader) -> bool:
    """Whether a bare number may be an hour at all: not "2 windows", not "3 days", not "the first one"."""
    first, after = reader.index_of[match.start()], reader.symbol(reader.index_of[match.end()])
    before = reader.symbol(first - 1)
    led = match[0].split()[0] in ("AT", "AROUND") or before in ("D", "FOR", "OR", "AND", "NOT")
    if (
        after in _COUNTED
        or before in ("-", "HALF", "LAST", "NEXT", "o1")
        or _COUNTED_PAIR.match(reader.stream, match.end())
    ):
        return False
    if re.search(r"\bn\d", match["p"]):
        spoken_first = all(symbol in ("ok", ",") for symbol in reader.symbols[:first])
        return (led and before != "AND") or (spoken_first and match["p"].strip() not in ("n1", "n2"))
    if int(re.findall(r"\d+", match["p"])[0]) > 12 and match[0].split()[0] != "AT":
        return False
    return led or after not in ("x", "PICK")


_COUNTED_PAIR = re.compile(r"(?:OR |AND |TO )[Nn]\d+ (?:c|SPAN|DAY|WEEK|MONTH|YEAR|STREET) ")
_COUNTED = frozenset({"c", "SPAN", "DAY", "WEEK", "MONTH", "YEAR", "STREET", "-", "OF", "PICK"})


def _two(match: re.Match[str], reader: _Reader) -> list[_Found]:
    """ "10 or 11", "at 8 or 10 am": the second may lend am or pm to the first."""
    first, second = reader.point(match, "p"), reader.point(match, "q")
    if first is None or second is None or not _pair_stands(match, reader, first, second):
        return []
    first, second = _agreeing(first, second)
    if match[0].split()[0] in ("AT", "AROUND"):
        first, second = replace(first, explicit=True), replace(second, explicit=True)
    middle = reader.index_of[match.start("q")]
    last_of_first = reader.index_of[match.end("p")] - 1
    return [replace(_as_found(first), last=last_of_first), replace(_as_found(second), first=middle)]


def _pair_stands(match: re.Match[str], reader: _Reader, first: _Point, second: _Point) -> bool:
    if first.explicit or second.explicit:
        return True
    after = reader.symbol(reader.index_of[match.end()])
    before = reader.symbol(reader.index_of[match.start()] - 1)
    numbers = [int(n) for n in re.findall(r"[Nn](\d+)", match[0])]
    return after not in _COUNTED and after != "x" and before != "-" and max(numbers) <= 12 and min(numbers) >= 1


def _agreeing(first: _Point, second: _Point) -> tuple[_Point, _Point]:
    """ "1-3 pm": one am or pm said for both, where that keeps them in order."""
    if len(first.readings) > 1 and len(second.readings) == 1:
        fit = [r for r in first.readings if r <= second.first]
        same_half = [r for r in fit if (r < NOON) == (second.first < NOON)]
        chosen = (same_half or fit)[:1]
        first = _Point(tuple(chosen) or first.readings, True)
    elif len(second.readings) > 1 and len(first.readings) == 1:
        fit = sorted(r for r in second.readings if r > first.first)
        second = _Point(tuple(fit[:1]) or second.readings, True)
    return first, second


def _between(match: re.Match[str], reader: _Reader) -> list[_Found]:
    first, second = reader.point(match, "p"), reader.point(match, "q")
    if first is None or second is None:
        return []
    led = match[0].split()[0] in ("BETWEEN", "FROM")
    if not led and not _pair_stands(match, reader, first, second):
        return []
    if (
        not led
        and not first.explicit
        and not second.explicit
        and "TO " in match[0]
        and not reader.changing
        and "A" in reader.symbols
    ):
        return []
    first, second = _agreeing(first, second)
    if reader.changing and "TO " in match[0] and "- " not in match[0]:
        middle, last_of_first = reader.index_of[match.start("q")], reader.index_of[match.end("p")] - 1
        return [
            replace(_as_found(first), last=last_of_first, relation="instead_of"),
            replace(_as_found(second), first=middle),
        ]
    end = next((r for r in sorted(second.readings) if r > first.first), None)
    explicit = led or first.explicit or second.explicit
    return [_Found(first.first, end, explicit=explicit)] if end else []


def _after(match: re.Match[str], reader: _Reader) -> list[_Found]:
    point = reader.point(match, "p")
    return [_Found(point.first, END_OF_DAY)] if point and _window_stands(match, reader, point) else []


def _before(match: re.Match[str], reader: _Reader) -> list[_Found]:
    point = reader.point(match, "p")
    return [_Found(START_OF_DAY, point.first)] if point and _window_stands(match, reader, point) else []


def _up_to(match: re.Match[str], reader: _Reader) -> list[_Found]:
    """ "no later than 3" takes in 3 o'clock itself."""
    point = reader.point(match, "p")
    if point is None or not _window_stands(match, reader, point):
        return []
    return [_Found(START_OF_DAY, _minutes_later(point.first, 1))]


def _window_stands(match: re.Match[str], reader: _Reader, point: _Point) -> bool:
    """Not "after 2 weeks", not "from 3 windows"."""
    after = reader.symbol(reader.index_of[match.end()])
    bare_large = not point.explicit and any(int(n) > 12 for n in re.findall(r"N(\d+)", match[0]))
    return point.explicit or (after not in _COUNTED and after != "x" and not bare_large)


def _part(match: re.Match[str], reader: _Reader) -> list[_Found]:
    part, said = (2 if match["part"] == "TONIGHT" else int(match["part"][4:])), (match["of"] or "").strip()
    if part == 0 and _greets(match, reader):
        return []
    if said == "MID":
        return [_Found(*_MID_PARTS[part], candidates=(_MID_HOURS[part],))]
    table = {"EARLY": _EARLY_PARTS, "LATE": _LATE_PARTS, "END": _LATE_PARTS, "START": _EARLY_PARTS}.get(said, _PARTS)
    return [_Found(*table[part])]


def _greets(match: re.Match[str], reader: _Reader) -> bool:
    """ "Morning! I need ...": the part of the day opens the text as a greeting."""
    first, last = reader.index_of[match.start()], reader.index_of[match.end()]
    mark = reader.tokens[last].word if last < len(reader.tokens) else ""
    return first == 0 and mark in ("!", ",") and last + 1 < len(reader.tokens)


def _span_of_day(
    start: time, end: time, preference: Literal["earliest", "latest", "none"] = "none", about: time | None = None
) -> _Build:
    def build(match: re.Match[str], reader: _Reader) -> list[_Found]:
        return [_Found(start, end, preference, candidates=(about,) if about else ())]

    return build


def _without_doubles(found: Sequence[_Found]) -> list[_Found]:
    """ "friday afternoon at 3": the part of the day settles the hour and is not a wish of its own."""
    kept: list[_Found] = []
    for item in found:
        left = kept[-1] if kept else None
        if left and _same_wish(left, item):
            kept[-1] = _settled(left, item)
        else:
            kept.append(item)
    return kept


def _same_wish(left: _Found, right: _Found) -> bool:
    if right.first - left.last > 3 or left.relation != right.relation:
        return False
    part, point = (left, right) if left.start != left.end else (right, left)
    if part.start == part.end or point.start != point.end or (part.start, part.end) not in _PARTS:
        return False
    return any(_fits(reading, part) for reading in point.candidates)


def _fits(reading: time, part: _Found) -> bool:
    return part.start <= reading < part.end or (part.start == time(17) and reading >= NOON)


def _settled(left: _Found, right: _Found) -> _Found:
    part, point = (left, right) if left.start != left.end else (right, left)
    readings = tuple(r for r in point.candidates if _fits(r, part))
    return replace(
        point, start=readings[0], end=readings[0], candidates=readings, explicit=True, first=left.first, last=right.last
    )


# --- rules ----------------------------------------------------------------------------------------------------------

_HOUR = r"(?:T |N\d+ |n\d+ |NOON |MIDNIGHT )"
_TAIL = r"(?:(?:- )?ISH |OCLOCK |SHARP |HALFMORE |QUARTERMORE )?(?:(?:IN )?(?:THE )?PART\d |TONIGHT )?"
_POINT = (
    rf"(?:(?:A )?(?:HALF|QUARTER) (?:AFTER |TO |UNTIL |OF |BEFORE )?{_HOUR}{_TAIL}|n\d+ (?:n30|n20|N15|N30|N45) {_TAIL}"
    rf"|N12 NOON |{_HOUR}{_TAIL})"
)


def _p(name: str = "p") -> str:
    return f"(?P<{name}>{_POINT})"


_LED = r"(?:AT |AROUND )*"
_TABLE: tuple[tuple[str, _Build], ...] = (
    (rf"{_LED}{_p()}", _one),
    (rf"AT (?P<p>H ){_TAIL}", _one),
    (rf"{_LED}{_p()}(?:, )?(?:OR |AND ){_LED}{_p('q')}", _two),
    (rf"(?:BETWEEN |FROM ){_LED}{_p()}(?:AND |TO |UNTIL |- ){_LED}{_p('q')}", _between),
    (rf"{_LED}{_p()}(?:TO |UNTIL |- ){_LED}{_p('q')}", _between),
    (rf"(?:AFTER |SINCE |FROM |START ){_LED}{_p()}(?:ON |ONWARD |LATER )?", _after),
    (rf"{_LED}{_p()}(?:LATER|ONWARD) ", _after),
    (rf"(?:BEFORE ){_LED}{_p()}", _before),
    (rf"(?:UNTIL |WITHIN ){_LED}{_p()}(?:EARLIER )?", _up_to),
    (rf"{_LED}{_p()}EARLIER ", _up_to),
    (r"(?P<of>EARLY |MID |LATE |END |START )?(?:- )?(?:IN |OF )?(?:THE )?(?P<part>PART\d|TONIGHT) ", _part),
    (r"(?:THE )?FIRSTTHING (?:IN )?(?:THE )?(?:PART0 )?", _span_of_day(START_OF_DAY, NOON, "earliest")),
    (r"AFTER LUNCH ", _span_of_day(time(13), time(17))),
    (r"BEFORE LUNCH ", _span_of_day(START_OF_DAY, NOON)),
    (r"(?:AT |AROUND |IN |DO |UNTIL )?(?:THE )?LUNCH ", _span_of_day(time(11, 30), time(13, 30), about=NOON)),
    (r"AFTER WORK ", _span_of_day(time(17), END_OF_DAY)),
    (r"BEFORE WORK ", _span_of_day(START_OF_DAY, time(9))),
    (r"AFTER SCHOOL ", _span_of_day(time(15), END_OF_DAY)),
    (r"(?:THE )?EOD ", _span_of_day(time(15), END_OF_DAY, "latest")),
    (r"(?:THE )?EARLIEST (?=$|ok|,|\.|PICK (?!of)|T|x)", _span_of_day(START_OF_DAY, END_OF_DAY, "earliest")),
    (r"(?:THE )?LATEST (?=$|ok|,|\.|PICK )", _span_of_day(START_OF_DAY, END_OF_DAY, "latest")),
    (r"SOONEST ", _span_of_day(START_OF_DAY, END_OF_DAY, "earliest")),
)
_RULES: tuple[tuple[re.Pattern[str], _Build], ...] = tuple((re.compile(pattern), build) for pattern, build in _TABLE)
