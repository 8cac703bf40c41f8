"""Wishes about many records at once, named by lists and ranges of ids: read, carried on, and pursued.

Who works on lists says all of it in one message, and next time only what is different ("without 500104", "and for
Team B"). So each message is read for values, and laid over the values of the last wish.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

from agent.planner.desk import Desk
from agent.planner.frame import Frame, Window, Wish
from agent.planner.intents import Guess
from agent.planner.knowledge import Goal, Knowledge, Slot
from agent.planner.outcome import Answered, Fragment, Proposal
from agent.planner.reading import FAR, Clause, Reader, narrow
from agent.providers.base import TurnFacts
from agent.transcript import JsonObject, ToolMessage
from tools.id_lists import ranges_of

OPEN_ENDED_DAYS = 4  # "from Monday on" looks so many days further
_LONGEST_RANGE = 1000


@dataclass(frozen=True, slots=True)
class Heard:
    """What one clause says of a batch: ids named, added and taken out, and other values by slot."""

    named: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    kept: bool = False  # only those that an earlier check found good
    values: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.named or self.added or self.without or self.kept or self.values)


class BatchListener:
    """Hears one message of somebody who works on batches."""

    def __init__(self, knowledge: Knowledge, reader: Reader, facts: TurnFacts, frame: Frame) -> None:
        self._k = knowledge
        self._reader = reader
        self._today = facts.now.date()
        self.frame = frame
        self.taken_up = False
        self.specialist: str | None = None

    def hear(self, text: str) -> list[tuple[Wish, Clause]]:
        """The wishes of a message with the clauses they come from, in their order."""
        found: list[tuple[Wish, Clause]] = []
        last = self.frame.wish
        for clause in self._reader.clauses(self._k.patterns["joint"].sub(" and ", text), self._today):
            wish = self._possible(self._read(clause, last), clause)
            if found and self._goal(found[-1][0]) and wish.intent == found[-1][0].intent:
                found.pop()  # one wish, said in two clauses
            found.append((wish, clause))
            last = wish if self._goal(wish) else last
        return found

    def _possible(self, wish: Wish, clause: Clause) -> Wish:
        """The wish, or, if its day does not exist, that; it stays open for a day that does."""
        if not clause.said.impossible or clause.said.days or self._goal(wish) is None:
            return wish
        values = {**wish.values, "for": wish.intent}
        return replace(wish, intent="impossible_date", values=values, raw=clause.said.impossible[0].reason)

    def _read(self, clause: Clause, last: Wish | None) -> Wish:
        said, best = clause.said, clause.best
        heard = self._heard(clause, last)
        wanted = best if best is not None and best.score >= self._k.thresholds["intent"] else None
        if wanted is not None and self._is_batch(wanted):
            intent = wanted.intent.name
            if last is not None and last.intent == intent:
                self.taken_up = True
            fresh = bool(heard.named) or last is None or last.intent != intent
            return self._merged(Wish(intent, mention=said.raw, raw=said.raw), last, heard, flags=not fresh)
        if heard and last is not None and not self._stands_alone(wanted):
            self.taken_up = self.taken_up or last is self.frame.wish
            return self._merged(replace(last, raw=said.raw), last, heard, flags=True)
        if heard.named and not self._stands_alone(wanted):
            return self._merged(Wish(self._k.block["bare_batch"], raw=said.raw), None, heard, flags=False)
        if wanted is not None:
            return Wish(wanted.intent.name, mention=said.raw, raw=said.raw)
        return Wish("unknown", raw=said.raw)

    def _is_batch(self, guess: Guess) -> bool:
        goal = guess.intent.goal
        return goal is not None and self._k.goals[goal].is_batch

    def _stands_alone(self, wanted: Guess | None) -> bool:
        """Whether something else is wanted, however many numbers stand beside it."""
        return wanted is not None and not wanted.intent.small_talk and wanted.cue >= self._k.thresholds["alone"]

    def _goal(self, wish: Wish) -> str | None:
        return self._k.intents[wish.intent].goal

    # -- values -------------------------------------------------------------------------------------------------

    def _merged(self, wish: Wish, last: Wish | None, heard: Heard, *, flags: bool) -> Wish:
        """The wish with the values of the last one, and over them what was said. Flags hold for the same wish only."""
        carried = dict(last.values) if last is not None else {}
        batch = self._k.batch_slot.name
        if not flags:
            for slot in self._k.slots.values():
                if slot.kind in ("flag", "word", "words", "place"):
                    carried.pop(slot.name, None)
        carried.pop("kept", None)
        ids = heard.named or _split(carried.get(batch, "") or self.frame.focus or "")
        ids = tuple(dict.fromkeys((*ids, *heard.added)))
        ids = tuple(each for each in ids if each not in heard.without)
        values = {**carried, **heard.values, **({batch: ",".join(ids)} if ids else {})}
        if heard.kept:
            values["kept"] = "yes"
        return replace(wish, values=values)

    def _heard(self, clause: Clause, last: Wish | None) -> Heard:
        raw, mended = clause.said.raw, clause.said.mended
        values: dict[str, str] = {}
        for slot in self._k.slots.values():
            if (value := self._value(slot, clause)) is not None:
                values[slot.name] = value
        choice = next((s for s in self._k.slots.values() if s.kind == "choice"), None)
        asked = self.frame.asked == self._k.batch_slot.name and last is self.frame.wish
        if choice and choice.name not in values and asked and (bare := self._k.patterns["bare_choice"].match(raw)):
            values[choice.name] = bare["choice"]
        named, added, without = self._ids(raw)
        return Heard(named, added, without, bool(self._k.patterns["kept"].search(mended)), values)

    def _value(self, slot: Slot, clause: Clause) -> str | None:
        """What a clause says for one slot, as text."""
        raw, mended = clause.said.raw, clause.said.mended
        match slot.kind:
            case "span":
                return self._span(clause)
            case "choice":
                found = slot.pattern.search(raw) if slot.pattern else None
                return found["choice"] if found else None
            case "flag":
                return "yes" if slot.pattern and slot.pattern.search(mended) else None
            case "place":
                found = slot.pattern.search(raw) if slot.pattern else None
                return ",".join(found.groups()) if found else None
            case "word" | "words":
                hits = [value for value, pattern in slot.values.items() if pattern.search(mended)]
                return ",".join(hits if slot.kind == "words" else hits[:1]) or None
        return None

    def _span(self, clause: Clause) -> str | None:
        """The first and the last day that are spoken of. The A of "Team A Monday" is no article."""
        text = clause.said.raw
        for slot in self._k.slots.values():
            if slot.kind in ("choice", "batch") and slot.pattern is not None:
                text = slot.pattern.sub(" ", text)
        said = self._reader.say(text, self._today)
        windows = narrow(Wish(""), said, self._today, *self._k.when).days or tuple(
            Window(day.start.isoformat(), day.end.isoformat()) for day in said.days if day.relation == "on"
        )
        if not windows:
            return None
        first, last = min(w.start for w in windows), max(w.end for w in windows)
        if last == FAR:
            last = (date.fromisoformat(first) + timedelta(days=OPEN_ENDED_DAYS)).isoformat()
        return f"{first},{last}"

    def _ids(self, text: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Ids named, added, and taken out; which, the nearest such word before them tells."""
        marks = [
            (match.end(), kind)
            for kind in ("adds", "excludes", "includes")
            for match in self._k.patterns[kind].finditer(text)
        ]
        found: dict[str, list[str]] = {"adds": [], "excludes": [], "includes": []}
        for at, ids in self._mentions(text):
            before = [mark for mark in marks if mark[0] <= at]
            found[max(before)[1] if before else "includes"] += ids
        after = self._k.patterns["excluded_after"].search(text)
        if after is not None and not found["excludes"]:
            # "leave 500104 out": what stands before the word is meant.
            found["excludes"], found["includes"] = found["includes"], []
        return tuple(found["includes"]), tuple(found["adds"]), tuple(found["excludes"])

    def _mentions(self, text: str) -> Iterator[tuple[int, list[str]]]:
        """Ids with the place where they are said, ranges written out as far as anybody could mean them."""
        pattern = self._k.batch_slot.pattern
        if pattern is None:
            return
        taken: list[tuple[int, int]] = []
        for start, end, first, last in ranges_of(text):
            if pattern.fullmatch(first):
                taken.append((start, end))
                count = int(last) - int(first) + 1
                whole = 1 <= count <= _LONGEST_RANGE
                yield start, [str(n) for n in range(int(first), int(last) + 1)] if whole else [f"{first}-{last}"]
        for match in pattern.finditer(text):
            if not any(start <= match.start() < end for start, end in taken):
                yield match.start(), [match.group()]


class Batches:
    """Pursues wishes about batches, once their values are known."""

    def __init__(self, knowledge: Knowledge, desk: Desk) -> None:
        self._k = knowledge
        self._desk = desk

    def reach(self, goal: Goal, wish: Wish) -> Fragment | Proposal:
        """Ask for what is missing, read, or propose; raises `Needs` for a missing result."""
        needed = [self._k.slots[name] for name in goal.needs.values()]
        batch = self._k.batch_slot
        missing = [slot.name for slot in needed if (slot.of or slot.name) not in wish.values]
        focus = wish.values.get(batch.name)
        if missing:
            text = self._desk.render("which_details", missing=missing, wish=wish, tool=goal.tool)
            return Fragment(text, True, batch.name, wish=wish, focus=focus)
        if "kept" in wish.values:
            wish = self._only_good(goal, wish, batch)
            if not wish.values[batch.name]:
                return Fragment(self._desk.render("none_good"), wish=wish.without(batch.name), focus=focus)
        args: JsonObject = {}
        for parameter, name in (*goal.needs.items(), *goal.wants.items()):
            if (value := self._argument(self._k.slots[name], wish)) is not None:
                args[parameter] = value
        if self._desk.tools[goal.tool].effect == "read":
            result = self._read(goal.tool, args, wish)
            text = self._desk.render(goal.tool, result=result, wish=wish)
            return Fragment(text, "?" in text, wish=wish, focus=focus, answered=wish.intent)
        if (done := self._desk.memory.recall(goal.tool, args)) is not None:
            return Fragment("", wish=wish, focus=focus) if done.ok else self._failed(goal.tool, done, wish)
        self._look_first(goal, wish)
        return Proposal(goal.tool, args, wish, focus)

    def _look_first(self, goal: Goal, wish: Wish) -> None:
        """End the attempt where a read shows that nothing of it would come about."""
        for check in goal.checks:
            needs = self._k.goals[check["tool"]].needs
            args = {parameter: self._argument(self._k.slots[name], wish) for parameter, name in needs.items()}
            result = self._read(check["tool"], args, wish)
            fields = [check["field"], *([check["or"]] if check["if"] in wish.values else [])]
            if not any(result[field] for field in fields):
                text = self._desk.render(check["answer"], result=result, wish=wish)
                focus = wish.values[self._k.batch_slot.name]
                raise Answered(Fragment(text, "?" in text, wish=wish, focus=focus))

    def _read(self, tool: str, args: JsonObject, wish: Wish) -> JsonObject:
        """A result; a failure ends the attempt, and the wish stays in mind."""
        message = self._desk.attempt(tool, args)
        if not message.ok:
            raise Answered(self._failed(tool, message, wish))
        return message.result

    def _failed(self, tool: str, message: ToolMessage, wish: Wish) -> Fragment:
        text = self._desk.failure(tool, message.result, wish, None).text
        return Fragment(text, "?" in text, wish=wish, focus=wish.values.get(self._k.batch_slot.name))

    def _argument(self, slot: Slot, wish: Wish) -> object:
        value = wish.values.get(slot.of or slot.name)
        if value is None:
            return None
        match slot.kind:
            case "batch" | "words" | "span":
                return list(_split(value))
            case "first_day":
                return _split(value)[0]
            case "flag":
                return True
            case "place":
                return dict(zip(slot.keys, map(float, _split(value)), strict=True))
        return value

    def _only_good(self, goal: Goal, wish: Wish, batch: Slot) -> Wish:
        """The wish for those alone that the last check of them found good; without any it is made now."""
        ids = _split(wish.values[batch.name])
        good = next(self._checked(goal, ids, batch), None)
        if good is None:
            tool, path = next(iter(batch.good.items()))
            good = self._read(tool, {self._parameter(tool, batch): list(ids)}, wish)[path]
        left = [each for each in ids if each in good]
        return wish.without("kept").with_value(batch.name, ",".join(left))

    def _checked(self, goal: Goal, ids: Sequence[str], batch: Slot) -> Iterator[list[str]]:
        """Good ones by each check that the person has seen of all these ids, the newest first."""
        own = {check["tool"] for check in goal.checks}  # in this turn those were made for the goal, not for the person
        now = [m for m in reversed(list(self._desk.memory.now.values())) if m.name not in own]
        for message in (*now, *self._desk.memory.earlier):
            path = batch.good.get(message.name)
            if path and message.ok:
                asked = message.args.get(self._parameter(message.name, batch), ())
                if set(ids) <= set(asked):
                    yield message.result[path]

    def _parameter(self, tool: str, batch: Slot) -> str:
        return next(parameter for parameter, slot in self._k.goals[tool].needs.items() if slot == batch.name)


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()
