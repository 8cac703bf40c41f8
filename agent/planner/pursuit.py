"""Pursues one wish: fills the slots its goal needs, from what was said, what was shown and what tools offer.

Written straight through, as if every result were at hand. Where one is missing, `Needs` ends the attempt with the
call to make; the next step of the turn starts again with that result remembered. So there is no state machine to keep
in step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import orjson

from agent.planner.frame import Frame, Shown, Window, Wish
from agent.planner.intents import Intent
from agent.planner.knowledge import Goal, Knowledge, Slot
from agent.planner.reading import FAR, MIDDLE, Reader, Said, words_of
from agent.providers.base import ModelRequest
from agent.transcript import JsonObject, ToolMessage, UserMessage
from tools.contract import Location

ANY = Goal("", {}, {}, {}, {}, {}, (), False)  # any record will do


class Needs(Exception):
    """The attempt cannot go on without the result of this call."""

    def __init__(self, tool: str, args: JsonObject) -> None:
        super().__init__(tool)
        self.tool = tool
        self.arguments = args


@dataclass(frozen=True, slots=True)
class Fragment:
    """One piece of the reply, and what it leaves open."""

    text: str
    question: bool = False
    asked: str | None = None
    shown: Shown | None = None
    wish: Wish | None = None
    focus: str | None = None
    answered: str | None = None  # the intent, when it was answered with facts


@dataclass(frozen=True, slots=True)
class Proposal:
    """A call with effects, ready to be made."""

    tool: str
    args: JsonObject
    wish: Wish
    focus: str | None = None
    remark: str = ""


class Instead(Exception):
    """The record's state makes this another intent: who asks for days of a planned visit wants to move it."""

    def __init__(self, intent: str, wish: Wish) -> None:
        super().__init__(intent)
        self.intent = intent
        self.wish = wish


class Each(Exception):
    """The wish is for several records: all that fit."""

    def __init__(self, wishes: Sequence[Wish]) -> None:
        super().__init__()
        self.wishes = tuple(wishes)


class Answered(Exception):
    """The attempt ends here with something to say."""

    def __init__(self, fragment: Fragment) -> None:
        super().__init__(fragment.text)
        self.fragment = fragment


@dataclass(frozen=True, slots=True)
class Memory:
    """Results at hand: those of this turn by call, and earlier ones, newest first."""

    now: Mapping[tuple[str, bytes], ToolMessage]
    earlier: tuple[ToolMessage, ...]

    def recall(self, tool: str, args: JsonObject) -> ToolMessage | None:
        """The result of exactly this call in this turn."""
        return self.now.get((tool, canonical(args)))

    def latest(self, tool: str, **where: Any) -> ToolMessage | None:
        """The newest good result of a tool whose top-level result or argument values fit; earlier turns included."""
        for message in (*self.now.values(), *self.earlier):
            facts = {**message.args, **message.result}
            if message.name == tool and message.ok and all(facts.get(k) == v for k, v in where.items()):
                return message
        return None


def canonical(args: JsonObject) -> bytes:
    """Arguments as bytes, equal when their meaning is."""
    return orjson.dumps(args, option=orjson.OPT_SORT_KEYS)


class Pursuit:
    """All attempts of one planning step share one of these."""

    def __init__(
        self, knowledge: Knowledge, reader: Reader, request: ModelRequest, frame: Frame, memory: Memory
    ) -> None:
        self._k = knowledge
        self._reader = reader
        self._facts = request.facts
        self._frame = frame
        self._memory = memory
        self._today = request.facts.now.date()
        self._tools = {t.name: t for t in request.tools}
        said = [m.text for m in reversed(request.messages) if isinstance(m, UserMessage)]
        self._answers = knowledge.answers[id(knowledge.definition.wording_for(said))]

    def look_at(self, record: str) -> None:
        """What is said next without a name is about this record."""
        self._frame = replace(self._frame, focus=record)

    # -- one wish ---------------------------------------------------------------------------------------------

    def pursue(self, wish: Wish) -> Fragment | Proposal:
        """Go as far as possible; raises `Needs` for a missing result."""
        intent = self._k.intents[wish.intent]
        try:
            if intent.goal is None:
                return self._say(intent, wish)
            return self._reach(self._k.goals[intent.goal], intent, wish)
        except Instead as other:
            return self.pursue(replace(other.wish, intent=other.intent))
        except Answered as answered:
            return answered.fragment

    def _say(self, intent: Intent, wish: Wish) -> Fragment:
        """An intent without a goal: look up its facts and render its template."""
        facts: JsonObject = {"said": wish.raw}
        if intent.question and self._k.record_slot.offered_by not in self._tools:
            return Fragment(self.render("not_available"))
        record = self._focus_record()
        if intent.tell.get("about_record") and self._reader.say(wish.mention, self._today).names_record:
            record = self._soft_record(ANY, wish)
        for tool in intent.facts:
            if tool in self._tools:
                facts[tool] = self._attempt(tool, {}).result
        text = self.render(intent.say or intent.name, record=record, **facts)
        focus = self._key(record)
        if not intent.question:
            return Fragment(text, question="?" in text, focus=focus, answered=wish.values.get("for"))
        return Fragment(text, question=True, asked="choice" if intent.choices else "go", wish=wish, focus=focus)

    def _reach(self, goal: Goal, intent: Intent, wish: Wish) -> Fragment | Proposal:
        if goal.tool not in self._tools:
            raise Answered(Fragment(self.render("not_available")))
        args: JsonObject = {**goal.fixed, **intent.tell.get("fixed", {})}
        record: JsonObject | None = None
        for parameter, slot_name in goal.needs.items():
            slot = self._k.slots[slot_name]
            wish, record = self._fill(slot, goal, intent, wish, record)
            args[parameter] = wish.values[slot_name]
        wish, record = self._fill_wanted(goal, intent, wish, record, args)
        focus = self._key(record)
        if intent.tell.get("inquires") and goal.needs and self._tools[goal.tool].effect == "gated":
            text = self.render("free", record=record, values=wish.values)
            return Fragment(text, question=True, asked="go", wish=wish, focus=focus)
        if self._tools[goal.tool].effect == "write":
            self._attempt(goal.tool, args)
        if self._tools[goal.tool].effect != "read":
            return self._propose(goal, intent, wish, args, focus, record)
        result = self._read(goal.tool, args, wish, record).result
        text = self.render(intent.answer or goal.tool, result=result, record=record, values=wish.values, wish=wish)
        shown = self._shown(goal.tool, result)
        if shown and shown.kind == self._k.record_slot.name and len(shown.options) == 1:
            focus = shown.options[0]
        return Fragment(text, question="?" in text, shown=shown, focus=focus, answered=wish.intent)

    def _propose(
        self, goal: Goal, intent: Intent, wish: Wish, args: JsonObject, focus: str | None, record: JsonObject | None
    ) -> Fragment | Proposal:
        done = self._memory.recall(goal.tool, args)
        if done is None:
            return Proposal(goal.tool, args, wish, focus, self._remark(wish))
        if not done.ok:
            raise Answered(self._failure(goal.tool, done.result, wish, record))
        if done.result.get("status") == "confirmation_required":
            return Fragment("", wish=wish, focus=focus)
        text = self.render(f"done_{goal.tool}", result=done.result, record=record)
        return Fragment(text, question="?" in text, focus=focus)

    def _remark(self, wish: Wish) -> str:
        """A pick that goes against a standing constraint is questioned, not refused."""
        day, clock = wish.values.get(self._k.day_slot.name), wish.values.get(self._k.time_slot.name)
        against = (day and self._frame.forbids_day(day)) or (clock and self._frame.forbids_time(clock))
        return self.render("against_constraint", standing=self._frame.standing) if against else ""

    # -- slots ------------------------------------------------------------------------------------------------

    def _fill(
        self, slot: Slot, goal: Goal, intent: Intent, wish: Wish, record: JsonObject | None
    ) -> tuple[Wish, JsonObject | None]:
        match slot.kind:
            case "record":
                record = self._record(slot, goal, wish)
                key = record[slot.key]
                if (was := wish.values.get("was")) and was != key:
                    wish = wish.without(self._k.day_slot.name, self._k.time_slot.name)
                self._check(goal, record, key)
                return wish.without("was").with_value(slot.name, key), record
            case "day":
                return wish.with_value(slot.name, self._day(slot, intent, wish, record)), record
            case "time":
                return wish.with_value(slot.name, self._time(slot, intent, wish, record)), record
            case "text":
                if slot.name not in wish.values:
                    text = self.render(slot.ask, record=record)
                    raise Answered(Fragment(text, True, slot.name, wish=wish, focus=self._key(record)))
                return wish, record
        raise ValueError(f"slot {slot.name} has an unknown kind {slot.kind!r}")

    def _check(self, goal: Goal, record: JsonObject, key: str) -> None:
        """Read what would make the goal impossible, before anything is asked of the person."""
        for check in goal.checks:
            result = self._read(check["tool"], {check["parameter"]: key}).result
            if not result.get(check["field"]):
                text = self.render(check["answer"], result=result, record=record)
                raise Answered(Fragment(text, "?" in text, focus=key))

    def _fill_wanted(
        self, goal: Goal, intent: Intent, wish: Wish, record: JsonObject | None, args: JsonObject
    ) -> tuple[Wish, JsonObject | None]:
        """Optional parameters: a slot that was said, or a dotted path into the record that is meant."""
        for parameter, sources in goal.wants.items():
            for source in sources.split("|"):
                if "." in source:
                    if record is None:
                        record = self._soft_record(goal, wish)
                    value = _dig({self._k.record_slot.name: record}, source) if record else None
                elif source == self._k.day_slot.name and len(wish.days) == 1 and source not in wish.values:
                    value = wish.days[0].start
                else:
                    value = wish.raw if source == "raw" else wish.values.get(source)
                if value:
                    args[parameter] = value
                    break
        return wish, record

    def records(self, slot: Slot) -> list[JsonObject]:
        """Every record of the person, finished ones included."""
        args = dict(slot.args)
        if len(self._facts.identity.clients) > 1:
            args["client_id"] = "all"
        earlier = self._memory.recall(slot.offered_by, args)
        if earlier is None:
            known = self._memory.latest(slot.offered_by, **slot.args)
            if known is not None and (len(self._facts.identity.clients) <= 1 or not known.args.get("client_id")):
                earlier = known
        result = earlier.result if earlier is not None and earlier.ok else self._read(slot.offered_by, args).result
        return list(result[slot.path])

    def _record(self, slot: Slot, goal: Goal, wish: Wish) -> JsonObject:
        records = self.records(slot)
        if chosen := wish.values.get(slot.name):
            hit = next((r for r in records if r[slot.key] == chosen), None)
            if hit is not None:
                return self._fit(hit, goal, wish)
        said = self._reader.say(wish.mention, self._today) if wish.mention else None
        matches = self._matches(slot, records, said, wish)
        return self._fit(self._one_of(slot, goal, wish, matches, said, records), goal, wish)

    def _matches(self, slot: Slot, records: list[JsonObject], said: Said | None, wish: Wish) -> list[JsonObject]:
        """Records that what was said may mean; empty when nothing was said about which."""
        if said is None:
            return []
        if not said.references and said.has_address and not self._by_words(records, said):
            raise Answered(Fragment(self.render("unknown_record", said=said.raw)))
        if said.references:
            hits = [r for r in records if any(_is_reference(r, slot.key, ref) for ref in said.references)]
            if not hits:
                raise Answered(Fragment(self.render("unknown_record", said=said.references[0])))
            return hits
        shown = self._frame.shown
        if shown and shown.kind == slot.name:
            by_place = self._by_position(shown.options, said)
            if by_place:
                return [r for r in records if r[slot.key] in by_place]
            if self._frame.asked == slot.name:
                offered = [r for r in records if r[slot.key] in shown.options]
                if hits := self._by_fields(offered, said, lenient=True):
                    return hits
        return self._by_fields(records, said)

    def _finished(self, record: JsonObject) -> bool:
        return _fits(record, self._k.finished)

    def _by_fields(self, records: list[JsonObject], said: Said, *, lenient: bool = False) -> list[JsonObject]:
        hits = records
        hard = False
        for field in self._k.fields:
            wanted = said.fields.get(field.name)
            if not wanted:
                continue
            narrowed = [r for r in hits if r.get(field.name) in wanted]
            if not narrowed and lenient:
                return []
            if not narrowed and not field.soft:
                facts = {"said": wanted[0].lower(), "records": [r for r in records if not self._finished(r)]}
                raise Answered(Fragment(self.render("no_such_record", **facts)))
            if narrowed:
                hits, hard = narrowed, hard or not field.soft or len(narrowed) < len(records)
        if narrowed := self._by_words(hits, said):
            return narrowed
        return hits if hard else []

    def _by_words(self, records: list[JsonObject], said: Said) -> list[JsonObject]:
        """Those whose address or place shares a telling word with what was said; empty when none stands out."""
        words = words_of(said.raw) - self._k.dull_words
        hits = records
        for name in self._k.text_fields:
            narrowed = [r for r in hits if words & (words_of(str(r.get(name) or "")) - self._k.dull_words)]
            if narrowed and (len(narrowed) < len(hits) or len(records) == 1):
                hits = narrowed
        return hits if len(hits) < len(records) or (len(records) == 1 and hits is not records) else []

    def _one_of(
        self,
        slot: Slot,
        goal: Goal,
        wish: Wish,
        matches: list[JsonObject],
        said: Said | None,
        records: list[JsonObject],
    ) -> JsonObject:
        active = [r for r in matches if not self._finished(r)]
        if len(active) == 1:
            return active[0]
        fitting = [r for r in active if _fits(r, goal.prefer)]
        if active:
            if self._frame.focus and (self._k.intents[wish.intent].tell.get("keeps_focus") or goal.tool != ""):
                focused = [r for r in active if r[slot.key] == self._frame.focus]
                if focused and (not goal.own_choice or _fits(focused[0], goal.prefer)):
                    return focused[0]
            if len(fitting) == 1 and not goal.own_choice:
                return fitting[0]
            if said is not None and said.everything and self._k.intents[wish.intent].tell.get("several"):
                raise Each([wish.with_value(slot.name, r[slot.key]) for r in fitting or active])
            raise Answered(self._which(slot, wish, fitting if len(fitting) > 1 and not goal.own_choice else active))
        if matches:
            return matches[0]  # all finished
        focused = [r for r in records if r[slot.key] == self._frame.focus]
        spoken_of = (said is not None and said.pointing) or wish.days or wish.times
        if focused and (_fits(focused[0], goal.prefer) or spoken_of):
            return focused[0]
        fitting = [r for r in records if not self._finished(r) and _fits(r, goal.prefer)]
        if len(fitting) == 1:
            return fitting[0]
        if focused and not fitting:
            return focused[0]
        if not fitting:
            raise Answered(Fragment(self.render(slot.none, records=[r for r in records if not self._finished(r)])))
        if said is not None and said.everything and self._k.intents[wish.intent].tell.get("several"):
            raise Each([wish.with_value(slot.name, r[slot.key]) for r in fitting])
        raise Answered(self._which(slot, wish, fitting))

    def _which(self, slot: Slot, wish: Wish, options: list[JsonObject]) -> Fragment:
        text = self.render(slot.ask, options=options, wish=wish)
        shown = Shown(slot.name, tuple(r[slot.key] for r in options))
        return Fragment(text, True, slot.name, shown, wish)

    def _fit(self, record: JsonObject, goal: Goal, wish: Wish) -> JsonObject:
        """End the attempt when the record's own state rules the goal out."""
        tell = self._k.intents[wish.intent].tell
        others = dict(tell.get("instead", {}))
        if wish.days or wish.times or wish.shift:
            others.update(tell.get("instead_when", {}))
        for field, intents in others.items():
            if intent := intents.get(str(record.get(field))):
                raise Instead(intent, wish.with_value(self._k.record_slot.name, record[self._k.record_slot.key]))
        for field, answers in goal.unfit.items():
            if answer := answers.get(str(record.get(field))):
                text = self.render(answer, record=record, office=self.office(record))
                raise Answered(Fragment(text, "?" in text, focus=self._key(record)))
        return record

    def _soft_record(self, goal: Goal, wish: Wish) -> JsonObject | None:
        """The record that is meant, where the goal can do without one."""
        slot = self._k.record_slot
        said = self._reader.say(wish.mention, self._today) if wish.mention else None
        if not (said and said.names_record) and not self._frame.focus and not goal.prefer:
            return None
        records = self.records(slot)
        matches = [r for r in self._matches(slot, records, said, wish) if not self._finished(r)]
        fitting = [r for r in matches if _fits(r, goal.prefer)]
        if len(fitting) == 1:
            return fitting[0]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise Answered(self._which(slot, wish, matches))
        focused = [r for r in records if r[slot.key] == self._frame.focus]
        if focused:
            return focused[0]
        fitting = [r for r in records if not self._finished(r) and _fits(r, goal.prefer)]
        return fitting[0] if len(fitting) == 1 else None

    # -- days and times -----------------------------------------------------------------------------------------

    def _day(self, slot: Slot, intent: Intent, wish: Wish, record: JsonObject | None) -> str:
        if chosen := wish.values.get(slot.name):
            return chosen
        if record and (standing := record.get("appointment")):
            # The day that an appointment has now is named to say which one is meant, not where it shall go.
            old = Window(standing[slot.key], standing[slot.key])
            wish = replace(wish, days=tuple(w for w in wish.days if w != old))
            if wish.shift:
                day = (date.fromisoformat(standing[slot.key]) + timedelta(days=wish.shift)).isoformat()
                wish = replace(wish, days=(Window(day, day),))
        offer = self._offer(slot, wish, record)
        offered: list[str] = [d[slot.key] for d in offer[slot.path]]
        asked_days = bool(wish.days or wish.weekdays)
        fitting = [d for d in offered if self._day_fits(d, wish)]
        if not fitting and asked_days:
            offer = self._offer(slot, wish, record, self._window_args(slot, wish))
            wider: list[str] = [d[slot.key] for d in offer[slot.path]]
            fitting = [d for d in wider if self._day_fits(d, wish)]
            if not fitting:
                raise Answered(self._no_day(slot, wish, record, offer, offered or wider))
        if not fitting:
            raise Answered(self._no_day(slot, wish, record, offer, offered))
        exact = len(wish.days) == 1 and wish.days[0].start == wish.days[0].end and not wish.weekdays
        if exact or (len(fitting) == 1 and asked_days):
            return fitting[0]
        if wish.pick == "earliest" and not intent.tell.get("inquires"):
            return fitting[0]
        if wish.pick == "latest" and not intent.tell.get("inquires"):
            return fitting[-1]
        raise Answered(self._show_days(slot, wish, record, fitting, offer))

    def _offer(self, slot: Slot, wish: Wish, record: JsonObject | None, window: JsonObject | None = None) -> JsonObject:
        args = {p: wish.values[s] for p, s in self._k.goals[slot.offered_by].needs.items() if s in wish.values}
        args.update(window or {})
        return self._read(slot.offered_by, args, wish, record).result

    def _window_args(self, slot: Slot, wish: Wish) -> JsonObject:
        if slot.window is None or not wish.days:
            return {}
        tomorrow = (self._today + timedelta(days=1)).isoformat()
        start = max(min(w.start for w in wish.days), tomorrow)
        end = max(w.end for w in wish.days)
        if end == FAR:
            end = (date.fromisoformat(start) + timedelta(days=30)).isoformat()
        return {slot.window[0]: start, slot.window[1]: max(end, start)}

    def _day_fits(self, day: str, wish: Wish) -> bool:
        if wish.days and not any(w.holds(day) for w in wish.days):
            return False
        if wish.weekdays and date.fromisoformat(day).weekday() not in wish.weekdays:
            return False
        if any(w.holds(day) for w in wish.not_days):
            return False
        return bool(wish.days) or not self._frame.forbids_day(day)

    def _no_day(
        self, slot: Slot, wish: Wish, record: JsonObject | None, offer: JsonObject, offered: list[str]
    ) -> Fragment:
        """What was wished for is not open: say so, and name what is, nearest first."""
        near = [d[slot.key] for d in offer.get("nearest", [])] or offered
        wanted = wish.days[0].start if wish.days else None
        if wanted:
            near = sorted(near, key=lambda d: abs((date.fromisoformat(d) - date.fromisoformat(wanted)).days))
        near = sorted(near[:3])
        past = bool(wish.days) and all(w.end <= self._today.isoformat() for w in wish.days)
        too_far = bool(wish.days) and wish.days[0].start > offer["searched"]["to"]
        text = self.render(
            slot.gone, wanted=wish.days, past=past, too_far=too_far, nearest=near, record=record, offer=offer
        )
        cleared = replace(wish, days=(), weekdays=(), pick=None)
        shown = Shown(slot.name, tuple(near)) if near else None
        return Fragment(
            text, "?" in text, slot.name if near else None, shown, cleared if near else None, self._key(record)
        )

    def _show_days(
        self, slot: Slot, wish: Wish, record: JsonObject | None, days: Sequence[str], offer: JsonObject
    ) -> Fragment:
        count = int(self._k.thresholds["first_offer"])
        first, rest = tuple(days[:count]), tuple(days[count:])
        text = self.render(
            slot.ask,
            days=first,
            more=bool(rest),
            record=record,
            wish=wish,
            offer=offer,
            constrained=bool(self._frame.times),
        )
        return Fragment(text, True, slot.name, Shown(slot.name, first, rest), wish, self._key(record))

    def _time(self, slot: Slot, intent: Intent, wish: Wish, record: JsonObject | None) -> str:
        if chosen := wish.values.get(slot.name):
            return chosen
        args = {p: wish.values[s] for p, s in self._k.goals[slot.offered_by].needs.items()}
        offer = self._times(slot, args, wish, record)
        times: list[str] = offer[slot.path]
        windows = wish.times or self._frame.times
        if wish.same_time and record and (standing := record.get("appointment")):
            clock = _clock(standing["start"])
            wish = replace(wish, times=(Window(clock, f"{clock[:4]}{int(clock[4]) + 1}"),), hours="")
            windows = wish.times
        fitting = [t for t in times if any(w.holds(t) for w in windows)] if windows else times
        if not times or not fitting:
            text = self.render(
                slot.gone,
                times=_nearest(times, windows),
                hours=wish.hours or self._frame.standing,
                wish=wish,
                record=record,
                offer=offer,
            )
            cleared = replace(wish, times=())
            raise Answered(
                Fragment(text, "?" in text, slot.name, Shown(slot.name, tuple(times)), cleared, self._key(record))
            )
        points = all(_is_point(w) for w in windows) and bool(wish.times)
        asks = intent.tell.get("inquires") or wish.asking
        if len(fitting) == 1 and (wish.times or wish.pick) and not (asks and not points):
            return fitting[0]
        if points:
            return fitting[0]
        if wish.pick and not asks:
            return fitting[0] if wish.pick == "earliest" else fitting[-1]
        text = self.render(
            slot.ask, times=fitting, all=len(fitting) == len(times), wish=wish, record=record, offer=offer
        )
        raise Answered(Fragment(text, True, slot.name, Shown(slot.name, tuple(fitting)), wish, self._key(record)))

    def _times(self, slot: Slot, args: JsonObject, wish: Wish, record: JsonObject | None) -> JsonObject:
        known = self._memory.recall(slot.offered_by, args)
        if known is None and self._frame.asked == slot.name:
            for message in self._memory.earlier:
                if message.name == slot.offered_by and message.ok and message.result.get("date") == args.get("date"):
                    if _dig(message.result, f"{self._k.record_slot.name}.{self._k.record_slot.key}") == wish.values.get(
                        self._k.record_slot.name
                    ):
                        known = message
                    break
        if known is not None and known.ok:
            return known.result
        return self._read(slot.offered_by, args, wish, record).result

    # -- shared -------------------------------------------------------------------------------------------------

    def _by_position(self, options: Sequence[str], said: Said) -> list[str]:
        hits = []
        for n in (*said.positions, *said.numbers):
            if n in (-1, MIDDLE) and options:
                hits.append(options[-1 if n == -1 else (len(options) - 1) // 2])
            elif 1 <= n <= len(options):
                hits.append(options[n - 1])
        return hits

    def _attempt(self, tool: str, args: JsonObject) -> ToolMessage:
        message = self._memory.recall(tool, args)
        if message is None:
            raise Needs(tool, args)
        return message

    def _read(
        self, tool: str, args: JsonObject, wish: Wish | None = None, record: JsonObject | None = None
    ) -> ToolMessage:
        message = self._attempt(tool, args)
        if not message.ok:
            raise Answered(self._failure(tool, message.result, wish, record))
        return message

    def _failure(self, tool: str, result: JsonObject, wish: Wish | None, record: JsonObject | None) -> Fragment:
        """The most specific error template there is: tool and code, code, or the general one."""
        code = str(result.get("code", "error"))
        names = (f"error_{tool}_{code}", f"error_{code}", "error")
        name = next(n for n in names if n in self._answers)
        text = self.render(name, result=result, record=record, office=self.office(record))
        shown, asked = None, None
        for kind, path in (("time", "remaining"), ("time", "slots"), ("date", "nearest")):
            if options := result.get(path):
                keys = [o["date"] if isinstance(o, dict) else o for o in options]
                shown, asked = Shown(kind, tuple(_clock(k) if kind == "time" else k for k in keys)), kind
                break
        open_wish = None
        if wish is not None and asked:
            open_wish = replace(
                wish.without("date", "time") if asked == "date" else wish.without("time"), times=(), pick=None
            )
            if asked == "date":
                open_wish = replace(open_wish, days=())
        return Fragment(text, "?" in text, asked, shown, open_wish, self._key(record))

    def _shown(self, tool: str, result: JsonObject) -> Shown | None:
        for slot in self._k.slots.values():
            if slot.offered_by == tool and slot.path in result:
                options = [o[slot.key] if slot.key else o for o in result[slot.path]]
                return Shown(slot.name, tuple(options))
        return None

    def _focus_record(self) -> JsonObject | None:
        """The record in focus as far as it is known without a call."""
        slot = self._k.record_slot
        known = self._memory.latest(slot.offered_by)
        if known is None or not self._frame.focus:
            return None
        return next((r for r in known.result.get(slot.path, []) if r[slot.key] == self._frame.focus), None)

    def _key(self, record: JsonObject | None) -> str | None:
        return record[self._k.record_slot.key] if record else None

    def office(self, record: JsonObject | None = None) -> Location | None:
        """The location to refer to: the record's, else the caller's own, else the only one."""
        locations = self._facts.locations
        if record and (label := record.get("location")):
            for location in locations:
                if location.label == label:
                    return location
        for location in locations:
            if location.client_id == self._facts.identity.client_id:
                return location
        return locations[0] if len(locations) == 1 else None

    def render(self, name: str, **facts: Any) -> str:
        """An answer of the definition."""
        facts.setdefault("office", self.office(facts.get("record")))
        common = {"now": self._facts.now, "locations": self._facts.locations, "identity": self._facts.identity}
        return self._answers[name].render(**common, **facts).strip()


def _dig(body: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(body, dict):
            return None
        body = body.get(key)
    return body


def _fits(record: JsonObject, prefer: JsonObject) -> bool:
    return all(record.get(k) in v if isinstance(v, list) else record.get(k) == v for k, v in prefer.items())


def _is_reference(record: JsonObject, key: str, reference: str) -> bool:
    own = str(record[key]).upper()
    return own == reference or own.split("_")[0] == reference or str(record.get("link", "")).endswith(f"/{reference}")


def _is_point(window: Window) -> bool:
    return window.end[:3] == window.start[:3] and int(window.end[3:]) - int(window.start[3:]) == 1


def _nearest(times: Sequence[str], windows: Sequence[Window]) -> list[str]:
    """Times ordered by their distance to what was wished for."""
    if not windows:
        return list(times)
    wish = _minutes(windows[0].start)
    return sorted(times, key=lambda t: abs(_minutes(t) - wish))


def _minutes(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:5])


def _clock(text: str) -> str:
    """ "1:00 PM" or "13:00" as HH:MM."""
    from agent.dates import parse_time

    return parse_time(text).isoformat("minutes")
