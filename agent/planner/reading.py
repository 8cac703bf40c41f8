"""From a message to wishes: clauses, intents, and the days, times, records and places said in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, time, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

from rapidfuzz import fuzz

from agent.dates import END_OF_DAY, DateMention, ImpossibleDate, TimeMention, find_dates, find_times
from agent.planner.frame import Window, Wish
from agent.planner.intents import Guess, Intent
from agent.planner.knowledge import Knowledge
from agent.planner.text import WORD, fold, unaccent
from tools.contract import Location

M = TypeVar("M", DateMention, TimeMention)
FAR = "9999-12-31"
SPOKEN_OF_DAYS = 180  # a bare month further ahead than this is one that has been
MIDDLE = 0  # a position: the one in the middle
_MINUTE_LATER = 1
_MOST_PIECES = 16  # of one sentence or message; each cut is weighed against all that stands before it


@dataclass(frozen=True, slots=True)
class Said:
    """What one clause says, apart from what it wants."""

    raw: str
    mended: str
    days: tuple[DateMention, ...] = ()
    impossible: tuple[ImpossibleDate, ...] = ()
    times: tuple[TimeMention, ...] = ()
    positions: tuple[int, ...] = ()  # "the first one" = 1, "last" = -1
    numbers: tuple[int, ...] = ()  # bare small integers
    references: tuple[str, ...] = ()  # identifiers of records
    fields: dict[str, tuple[str, ...]] = field(default_factory=dict)
    pick: str | None = None
    everything: bool = False
    pointing: bool = False  # "it", "that one"
    has_address: bool = False  # it holds what looks like a street address

    @property
    def names_record(self) -> bool:
        """Whether it says which record is meant, by name or reference."""
        return bool(self.references or self.fields)

    @property
    def narrows(self) -> bool:
        """Whether it holds anything that could answer a question about an offer."""
        return bool(
            self.days or self.times or self.positions or self.numbers or self.references or self.fields or self.pick
        )


@dataclass(frozen=True, slots=True)
class Clause:
    """One part of a message with what it seems to want."""

    said: Said
    guesses: tuple[Guess, ...]

    @property
    def best(self) -> Guess | None:
        """The likeliest intent."""
        return self.guesses[0] if self.guesses else None


class Reader:
    """Reads messages for one definition; stateless but for compiled patterns."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._k = knowledge
        # Each step of a turn reads the same message again; the caches hold some of the latest ones.
        self.clauses = lru_cache(maxsize=128)(self._clauses)
        self.say = lru_cache(maxsize=512)(self._say)

    def _clauses(self, text: str, today: date) -> tuple[Clause, ...]:
        """The message as its wishes in their order; parts that want nothing by themselves join the one before."""
        text = self._unquoted(text)
        parts: list[str] = []
        for sentence in self._k.patterns["sentence"].split(text):
            if sentence and sentence.strip():
                parts.extend(self._parts(sentence.strip()))
        if len(parts) > _MOST_PIECES:
            parts[_MOST_PIECES - 1 :] = [" ".join(parts[_MOST_PIECES - 1 :])]
        merged: list[str] = []
        for part in parts:
            if merged and not self._stands_alone(part, merged[-1], today):
                merged[-1] = f"{merged[-1]} {part}"
            else:
                merged.append(part)
        return tuple(self.clause(part, today) for part in merged)

    def _unquoted(self, text: str) -> str:
        """What somebody else wrote is no wish of this person, unless it is dictated."""
        rest = self._k.patterns["quoted"].sub(" ", text)
        return text if not rest.strip() or self._swallows(rest) else rest

    def _parts(self, sentence: str) -> list[str]:
        """A sentence cut at connectors, but only where both sides want something."""
        best = self._best(sentence)
        if best is not None and best.intent.tell.get("whole"):
            return [sentence]
        pieces = [p for p in self._k.patterns["connector"].split(sentence) if p and p.strip(" ,")]
        if not 2 <= len(pieces) <= _MOST_PIECES:
            return [sentence]
        spans, at = [], 0
        for piece in pieces:
            start = sentence.index(piece, at)
            at = start + len(piece)
            spans.append((start, at))
        parts, begin = [], 0
        for (_, left_end), (right_start, right_end) in pairwise(spans):
            left, right = sentence[begin:left_end], sentence[right_start:right_end]
            if (
                (self._swallows(left) and not self._turns(right))
                or self._explains(left, right)
                or self._refines(left, right)
            ):
                continue
            if (self._wants(left) and self._wants(right)) or self._parallel(left, right):
                parts.append(left)
                begin = right_start
        parts.append(sentence[begin:])
        return parts

    def _refines(self, left: str, right: str) -> bool:
        """Whether the right part only says more of what the left one wants: "book it for the 24th, the earliest"."""
        mine, theirs = self._best(left), self._best(right)
        if mine is None or theirs is None or "?" in right or not theirs.intent.tell.get("refines"):
            return False
        akin = mine.intent.tell.get("family") == theirs.intent.tell.get("family")
        return akin and not self.say(right, date.today()).names_record

    def _explains(self, left: str, right: str) -> bool:
        """Whether the right part is the text that the left one's intent takes ("cancel it, found someone cheaper")."""
        mine, theirs = self._best(left), self._best(right)
        if mine is None or not mine.intent.captures or "?" in right:
            return False
        if theirs is None or (theirs.intent.goal and not self._k.patterns["tells"].match(right)):
            return False
        return self.capture(mine.intent, f"{left}, {right}") is not None

    def _turns(self, text: str) -> bool:
        """Whether a text that might still be dictated is a question, or a wish with a day of its own."""
        best = self._best(text)
        if best is None or best.cue < self._k.thresholds["alone"]:
            return False
        asks = text.rstrip().endswith("?") and best.intent.goal is not None
        return asks or (bool(best.intent.tell.get("takes_days")) and bool(self.say(text, date.today()).days))

    def _parallel(self, left: str, right: str) -> bool:
        """ "Book A for the 16th and B for the 17th": the second half wants the same for another record and time."""
        one, two = self.say(left, date.today()), self.say(right, date.today())
        return all((half.fields or half.has_address) and (half.days or half.times) for half in (one, two))

    def _wants(self, text: str) -> bool:
        best = self._best(text)
        return best is not None and best.cue >= self._k.thresholds["alone"] and not best.intent.small_talk

    def _swallows(self, text: str) -> bool:
        """Whether the intent takes the rest of the message as its text."""
        best = self._best(text)
        return best is not None and bool(best.intent.captures) and best.intent.tell.get("swallows", False)

    def _stands_alone(self, part: str, before: str, today: date) -> bool:
        if self._swallows(before):
            return self._turns(part) or (bool(self._k.patterns["new_topic"].match(part)) and self._wants(part))
        mine, theirs = self._best(part), self._best(before)
        idle = theirs is not None and theirs.intent.small_talk and not self.say(before, today).names_record
        if theirs is None or (theirs.cue < self._k.thresholds["alone"] and not idle):
            # A record with a day is a wish of its own, unless what follows may be what those are for.
            whole = self.say(before, today)
            other = mine is not None and self._wants(part) and not mine.intent.tell.get("takes_days")
            return (bool(whole.fields and whole.days) and other) or self._parallel(before, part)
        if mine is None or mine.cue < self._k.thresholds["alone"]:
            return theirs.intent.small_talk or self._parallel(before, part)
        return mine.intent.name != theirs.intent.name or self.say(part, today).names_record

    def _best(self, text: str) -> Guess | None:
        guesses = self._k.classifier.rank(self._k.lexicon.mend(text))
        return guesses[0] if guesses else None

    def clause(self, text: str, today: date) -> Clause:
        """One clause."""
        said = self.say(text, today)
        return Clause(said, self._k.classifier.rank(said.mended))

    def _say(self, text: str, today: date) -> Said:
        """The days, times, records and positions in a text. After a change of mind only what follows it counts."""
        k = self._k
        expanded = k.lexicon.expand(text)
        mended = k.lexicon.mend(text)
        plain = unaccent(expanded)
        found = [self._judged(d, expanded, today) for d in find_dates(expanded, today)]
        cuts = sorted((m.end() for m in k.patterns["change"].finditer(expanded)), reverse=True)
        days = _latest([d for d in found if isinstance(d, DateMention)], cuts)
        times = _latest(find_times(expanded), cuts)
        times = [t for t in self._wished_times(expanded, times) if t.kind == "point" or not _whole_day(t)]
        taken = [d.span for d in found] + [t.span for t in times if t.explicit]
        free = _blank(plain, taken)
        fields = {
            f.name: hits
            for f in k.fields
            if (hits := tuple(value for value, pattern in f.values.items() if pattern.search(mended)))
        }
        pick = "earliest" if k.patterns["earliest"].search(mended) else None
        pick = pick or ("latest" if k.patterns["latest"].search(mended) else None)
        if pick is None:
            pick = next((t.preference for t in times if t.preference != "none"), None)
        return Said(
            raw=text,
            mended=mended,
            days=tuple(days),
            impossible=tuple(d for d in found if isinstance(d, ImpossibleDate)),
            times=tuple(times),
            positions=_positions(free, k),
            numbers=tuple(int(n) for n in re.findall(r"(?<![\w#-])#?(\d{1,2})(?![\w:%-]|\.\d)", free)),
            references=tuple(m.group().upper() for m in k.references.finditer(text)),
            fields=fields,
            pick=pick,
            everything=bool(k.patterns["everything"].search(mended)),
            pointing=bool(k.patterns["pointing"].search(mended)),
            has_address=bool(k.patterns["address"].search(plain)),
        )

    def _judged(self, mention: DateMention | ImpossibleDate, text: str, today: date) -> DateMention | ImpossibleDate:
        """A date with its surroundings: "thursday is no good" rules it out, "the week after the 20th" begins there."""
        if isinstance(mention, ImpossibleDate) or mention.relation != "on":
            return mention
        before, after = text[: mention.span[0]], text[mention.span[1] :]
        if self._k.patterns["refused_day"].match(after):
            return replace(mention, relation="not")
        if mention.kind == "range" and mention.start > today + timedelta(days=SPOKEN_OF_DAYS):
            return replace(mention, relation="instead_of")  # "measured in February": the last one, not the next
        if self._k.patterns["week_after"].search(before) or self._k.patterns["week_later"].search(after):
            monday = mention.end + timedelta(days=7 - mention.end.weekday())
            return replace(mention, start=monday, end=monday + timedelta(days=4), kind="range")
        return mention

    def _wished_times(self, text: str, times: list[TimeMention]) -> list[TimeMention]:
        """ "Mornings only, I work afternoons": what stands beside the word that restricts is the wish."""
        beside = self._k.patterns["restricts"]
        strict = [
            t
            for t in times
            if t.kind == "window"
            and (beside.match(text[t.span[1] :]) or beside.search(text[max(0, t.span[0] - 8) : t.span[0]]))
        ]
        return strict or times

    def capture(self, intent: Intent, text: str) -> str | None:
        """The free text that an intent carries, as written."""
        for pattern in intent.captures:
            if match := pattern.search(text):
                captured = match.group("text").strip().strip("\"'“”").strip()
                mended = self._k.lexicon.mend(captured)
                if captured and not any(cue.search(mended) for cue, weight in intent.cues if weight > 1):
                    return captured
        return None

    def part_naming(self, pattern: re.Pattern[str], text: str, otherwise: str) -> str:
        """The part of a sentence, between connectors, in which a record is named."""
        pieces = self._k.patterns["connector"].split(text)
        return next((p for p in pieces if p and pattern.search(self._k.lexicon.mend(p))), otherwise)

    def places(self, text: str, locations: Sequence[Location]) -> list[Location]:
        """Locations named in a text by label, slug or city; a near miss of a long name counts."""
        words = fold(text)
        hits = []
        for location in locations:
            names = {fold(location.city), fold(location.name), fold(location.label)}
            names |= {n.removesuffix(" office") for n in names}
            if any(re.search(rf"(?<!\w){re.escape(n)}(?!\w)", words) for n in names if n) or any(
                len(n) > 5 and fuzz.partial_ratio(n, words, score_cutoff=88) for n in names
            ):
                hits.append(location)
        return hits


def narrow(wish: Wish, said: Said, today: date, day: str, clock: str) -> Wish:
    """The wish with the days and times of a clause; what is said anew replaces what was said before."""
    mentions = _relative([d for d in said.days if d.relation != "instead_of"])
    if mentions:
        windows, not_days, weekdays = _day_windows(mentions, today)
        if windows or weekdays:
            wish = replace(wish.without(day), days=tuple(windows), weekdays=tuple(weekdays))
        if not_days:
            wish = replace(wish, not_days=wish.not_days + tuple(not_days))
    if said.times:
        words = " / ".join(t.text for t in said.times)
        wish = replace(wish.without(clock), times=tuple(time_windows(said.times)), hours=words)
    if said.pick:
        wish = replace(wish, pick=said.pick)
    return wish


def _relative(mentions: Sequence[DateMention]) -> list[DateMention]:
    """ "The 18th is bad, the following week is better": that week follows the day named before it."""
    if len(mentions) > 1 and mentions[-1].kind == "range" and re.search(r"following|after", mentions[-1].text):
        monday = mentions[0].end + timedelta(days=7 - mentions[0].end.weekday())
        return [replace(mentions[-1], start=monday, end=monday + timedelta(days=4))]
    return list(mentions)


def _day_windows(mentions: Sequence[DateMention], today: date) -> tuple[list[Window], list[Window], list[int]]:
    windows: list[Window] = []
    not_days: list[Window] = []
    weekdays: list[int] = []
    day = timedelta(days=1)
    for m in mentions:
        start, end = m.start.isoformat(), m.end.isoformat()
        if m.kind == "recurring_weekday" and m.relation == "on":
            weekdays.extend(m.weekdays)
        elif m.relation == "on":
            windows.append(Window(start, end))
        elif m.relation == "before":
            windows.append(Window((today + day).isoformat(), (m.start - day).isoformat()))
        elif m.relation == "after":
            windows.append(Window((m.end + day).isoformat(), FAR))
        elif m.relation == "from":
            windows.append(Window(start, FAR))
        elif m.relation == "until":
            windows.append(Window((today + day).isoformat(), end))
        elif m.relation == "not" and m.kind != "recurring_weekday":
            not_days.append(Window(start, end))
    return windows, not_days, weekdays


def _whole_day(mention: TimeMention) -> bool:
    """ "As soon as possible" says nothing of the hour."""
    return mention.start == time(0) and mention.end == END_OF_DAY


def time_windows(times: Sequence[TimeMention]) -> list[Window]:
    """Times of day as windows [start, end) of HH:MM; a point is a window of one minute per reading of it."""
    windows = []
    for t in times:
        if t.kind == "window":
            end = "24:00" if t.end.isoformat("minutes") in ("00:00", "23:59") else t.end.isoformat("minutes")
            windows.append(Window(t.start.isoformat("minutes"), end))
        else:
            for candidate in t.candidates or (t.start,):
                clock = candidate.isoformat("minutes")
                windows.append(Window(clock, f"{clock[:3]}{int(clock[3:]) + _MINUTE_LATER:02d}"))
    return windows


def _latest(mentions: Sequence[M], cuts: Sequence[int]) -> list[M]:
    """Those after the last change of mind that any of them follows; a change of the hour leaves the day as it was."""
    for cut in cuts:
        if after := [m for m in mentions if m.span[0] >= cut]:
            return after
    return list(mentions)


def _blank(text: str, spans: Sequence[tuple[int, int]]) -> str:
    chars = list(text)
    for start, end in spans:
        for i in range(start, min(end, len(chars))):
            chars[i] = " "
    return "".join(chars)


def _positions(text: str, knowledge: Knowledge) -> tuple[int, ...]:
    found = []
    for position, pattern in knowledge.block["positions"].items():
        if re.search(pattern, text):
            found.append(int(position) if position != "middle" else MIDDLE)
    return tuple(found)


def words_of(text: str) -> set[str]:
    """Lower-case words of a text."""
    return {w for w in WORD.findall(fold(text)) if w[0].isalnum()}
