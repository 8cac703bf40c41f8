"""Pursues one wish: fills the slots its goal needs, from what was said, what was shown and what tools offer.

Written straight through, as if every result were at hand. Where one is missing, `Needs` ends the attempt with the
call to make; the next step of the turn starts again with that result remembered. So there is no state machine to keep
in step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

from agent.passages import PART
from agent.planner.batches import Batches
from agent.planner.desk import Desk, clock_of
from agent.planner.frame import Shown, Window, Wish
from agent.planner.intents import Intent
from agent.planner.knowledge import Goal, Knowledge, Slot
from agent.planner.memory import dig
from agent.planner.outcome import Answered, Fragment, Instead, Proposal
from agent.planner.reading import FAR, Reader
from agent.planner.records import ANY, Records
from agent.transcript import JsonObject


class Pursuit:
    """All attempts of one planning step share one of these."""

    def __init__(self, knowledge: Knowledge, reader: Reader, desk: Desk) -> None:
        self._k = knowledge
        self._reader = reader
        self._desk = desk
        self._records = Records(knowledge, reader, desk)

    def look_at(self, record: str) -> None:
        """What is said next without a name is about this record."""
        self._desk.frame = replace(self._desk.frame, focus=record)

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
        own_records = not self._k.works_on_batches
        if intent.question and own_records and self._k.record_slot.offered_by not in self._desk.tools:
            return Fragment(self._desk.render("not_available"))
        record = self._focus_record()
        if intent.tell.get("about_record") and self._reader.say(wish.mention, self._desk.today).names_record:
            record = self._records.find_softly(ANY, wish)
            for field, intents in intent.tell.get("instead", {}).items():
                if record is not None and (other := intents.get(str(record.get(field)))):
                    raise Instead(other, wish)
        for tool in intent.facts:
            if tool in self._desk.tools:
                facts[tool] = self._desk.attempt(tool, {}).result
        text = self._desk.render(intent.say or intent.name, record=record, **facts)
        focus = self._desk.key_of(record)
        if intent.tell.get("reopens") and self._k.intents[wish.values["for"]].goal:
            reopened = replace(wish.without("for"), intent=wish.values["for"])
            return Fragment(text, True, self._k.day_slot.name, wish=reopened, focus=focus)
        if not intent.question:
            return Fragment(text, question="?" in text, focus=focus, answered=wish.values.get("for"))
        return Fragment(text, question=True, asked="choice" if intent.choices else "go", wish=wish, focus=focus)

    def _from_documents(self, wish: Wish) -> Fragment:
        """What documents say to the question; honestly nothing when they are silent, or cannot be asked."""
        if quote := self._desk.quote(self._desk.whole_question(wish.raw)):
            return Fragment(self._desk.render("from_documents", quote=quote), answered=wish.intent)
        return Fragment(self._desk.render("no_document"))

    def _reach(self, goal: Goal, intent: Intent, wish: Wish) -> Fragment | Proposal:
        if goal.tool not in self._desk.tools:
            raise Answered(Fragment(self._desk.render("not_available")))
        if self._desk.tools[goal.tool].part == PART:
            return self._from_documents(wish)
        if goal.is_batch:
            return Batches(self._k, self._desk).reach(goal, wish)
        args: JsonObject = {**goal.fixed, **intent.tell.get("fixed", {})}
        record: JsonObject | None = None
        for parameter, slot_name in goal.needs.items():
            slot = self._k.slots[slot_name]
            wish, record = self._fill(slot, goal, intent, wish, record)
            args[parameter] = wish.values[slot_name]
        wish, record = self._fill_wanted(goal, intent, wish, record, args)
        focus = self._desk.key_of(record)
        if intent.tell.get("inquires") and goal.needs and self._desk.tools[goal.tool].effect == "gated":
            text = self._desk.render("free", record=record, values=wish.values)
            return Fragment(text, question=True, asked="go", wish=wish, focus=focus)
        if self._desk.tools[goal.tool].effect == "write":
            self._desk.attempt(goal.tool, args)
        if self._desk.tools[goal.tool].effect != "read":
            return self._propose(goal, intent, wish, args, focus, record)
        result = self._desk.read(goal.tool, args, wish, record).result
        text = self._desk.render(
            intent.answer or goal.tool, result=result, record=record, values=wish.values, wish=wish
        )
        shown = self._shown(goal.tool, result)
        if shown and shown.kind == self._k.record_slot.name and len(shown.options) == 1:
            focus = shown.options[0]
        return Fragment(text, question="?" in text, shown=shown, focus=focus, answered=wish.intent)

    def _propose(
        self, goal: Goal, intent: Intent, wish: Wish, args: JsonObject, focus: str | None, record: JsonObject | None
    ) -> Fragment | Proposal:
        done = self._desk.memory.recall(goal.tool, args)
        if done is None:
            return Proposal(goal.tool, args, wish, focus, self._remark(wish))
        if not done.ok:
            raise Answered(self._desk.failure(goal.tool, done.result, wish, record))
        if done.result.get("status") == "confirmation_required":
            return Fragment("", wish=wish, focus=focus)
        text = self._desk.render(f"done_{goal.tool}", result=done.result, record=record)
        return Fragment(text, question="?" in text, focus=focus)

    def _remark(self, wish: Wish) -> str:
        """A pick that goes against a standing constraint is questioned, not refused."""
        day, clock = wish.values.get(self._k.day_slot.name), wish.values.get(self._k.time_slot.name)
        against = (day and self._desk.frame.forbids_day(day)) or (clock and self._desk.frame.forbids_time(clock))
        return self._desk.render("against_constraint", standing=self._desk.frame.standing) if against else ""

    def _fill(
        self, slot: Slot, goal: Goal, intent: Intent, wish: Wish, record: JsonObject | None
    ) -> tuple[Wish, JsonObject | None]:
        match slot.kind:
            case "record":
                record = self._records.find(slot, goal, wish)
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
                    text = self._desk.render(slot.ask, record=record)
                    raise Answered(Fragment(text, True, slot.name, wish=wish, focus=self._desk.key_of(record)))
                return wish, record
        raise ValueError(f"slot {slot.name} has an unknown kind {slot.kind!r}")

    def _check(self, goal: Goal, record: JsonObject, key: str) -> None:
        """Read what would make the goal impossible, before anything is asked of the person."""
        for check in goal.checks:
            result = self._desk.read(check["tool"], {check["parameter"]: key}).result
            if not result.get(check["field"]):
                text = self._desk.render(check["answer"], result=result, record=record)
                raise Answered(Fragment(text, "?" in text, focus=key))

    def _fill_wanted(
        self, goal: Goal, intent: Intent, wish: Wish, record: JsonObject | None, args: JsonObject
    ) -> tuple[Wish, JsonObject | None]:
        """Optional parameters: a slot that was said, or a dotted path into the record that is meant."""
        for parameter, sources in goal.wants.items():
            for source in sources.split("|"):
                if "." in source:
                    if record is None:
                        record = self._records.find_softly(goal, wish)
                    value = dig({self._k.record_slot.name: record}, source) if record else None
                elif source == self._k.day_slot.name and len(wish.days) == 1 and source not in wish.values:
                    value = wish.days[0].start
                else:
                    value = wish.raw if source == "raw" else wish.values.get(source)
                if value:
                    args[parameter] = value
                    break
        return wish, record

    def _day(self, slot: Slot, intent: Intent, wish: Wish, record: JsonObject | None) -> str:
        if chosen := wish.values.get(slot.name):
            return chosen
        if standing := dig(record, slot.stands_at):
            # The day that a record has now is named to say which one is meant, not where it shall go.
            old = Window(standing, standing)
            wish = replace(wish, days=tuple(w for w in wish.days if w != old))
            if wish.shift:
                wish = replace(wish, days=(_shifted(standing, wish.shift),))
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
        return self._desk.read(slot.offered_by, args, wish, record).result

    def _window_args(self, slot: Slot, wish: Wish) -> JsonObject:
        if slot.window is None or not wish.days:
            return {}
        tomorrow = (self._desk.today + timedelta(days=1)).isoformat()
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
        return bool(wish.days) or not self._desk.frame.forbids_day(day)

    def _no_day(
        self, slot: Slot, wish: Wish, record: JsonObject | None, offer: JsonObject, offered: list[str]
    ) -> Fragment:
        """What was wished for is not open: say so, and name what is, nearest first."""
        near = [d[slot.key] for d in offer.get("nearest", [])] or offered
        wanted = wish.days[0].start if wish.days else None
        if wanted:
            near = sorted(near, key=lambda d: abs((date.fromisoformat(d) - date.fromisoformat(wanted)).days))
        near = sorted(near[:3])
        past = bool(wish.days) and all(w.end <= self._desk.today.isoformat() for w in wish.days)
        too_far = bool(wish.days) and wish.days[0].start > offer["searched"]["to"]
        text = self._desk.render(
            slot.gone, wanted=wish.days, past=past, too_far=too_far, nearest=near, record=record, offer=offer
        )
        cleared = replace(wish, days=(), weekdays=(), pick=None)
        shown = Shown(slot.name, tuple(near)) if near else None
        return Fragment(
            text, "?" in text, slot.name if near else None, shown, cleared if near else None, self._desk.key_of(record)
        )

    def _show_days(
        self, slot: Slot, wish: Wish, record: JsonObject | None, days: Sequence[str], offer: JsonObject
    ) -> Fragment:
        count = int(self._k.thresholds["first_offer"])
        first, rest = tuple(days[:count]), tuple(days[count:])
        text = self._desk.render(
            slot.ask,
            days=first,
            more=bool(rest),
            record=record,
            wish=wish,
            offer=offer,
            constrained=bool(self._desk.frame.times),
        )
        return Fragment(text, True, slot.name, Shown(slot.name, first, rest), wish, self._desk.key_of(record))

    def _time(self, slot: Slot, intent: Intent, wish: Wish, record: JsonObject | None) -> str:
        if chosen := wish.values.get(slot.name):
            return chosen
        args = {p: wish.values[s] for p, s in self._k.goals[slot.offered_by].needs.items()}
        offer = self._times(slot, args, wish, record)
        times: list[str] = offer[slot.path]
        windows = wish.times or self._desk.frame.times
        if wish.same_time and (standing := dig(record, slot.stands_at)):
            clock = clock_of(standing)
            wish = replace(wish, times=(Window(clock, f"{clock[:4]}{int(clock[4]) + 1}"),), hours="")
            windows = wish.times
        fitting = [t for t in times if any(w.holds(t) for w in windows)] if windows else times
        if not times or not fitting:
            text = self._desk.render(
                slot.gone,
                times=_nearest(times, windows),
                hours=wish.hours or self._desk.frame.standing,
                wish=wish,
                record=record,
                offer=offer,
            )
            cleared = replace(wish, times=())
            raise Answered(
                Fragment(
                    text, "?" in text, slot.name, Shown(slot.name, tuple(times)), cleared, self._desk.key_of(record)
                )
            )
        points = all(_is_point(w) for w in windows) and bool(wish.times)
        asks = intent.tell.get("inquires") or wish.asking
        if len(fitting) == 1 and (wish.times or wish.pick) and not (asks and not points):
            return fitting[0]
        if points:
            return fitting[0]
        if wish.pick and not asks:
            return fitting[0] if wish.pick == "earliest" else fitting[-1]
        text = self._desk.render(
            slot.ask, times=fitting, all=len(fitting) == len(times), wish=wish, record=record, offer=offer
        )
        raise Answered(
            Fragment(text, True, slot.name, Shown(slot.name, tuple(fitting)), wish, self._desk.key_of(record))
        )

    def _times(self, slot: Slot, args: JsonObject, wish: Wish, record: JsonObject | None) -> JsonObject:
        """The offer for this record and day: of this turn, else the one that the last question was about."""
        known = self._desk.memory.recall(slot.offered_by, args)
        if known is None and self._desk.frame.asked == slot.name:
            day = self._k.day_slot.name
            last = next((m for m in self._desk.memory.earlier if m.name == slot.offered_by and m.ok), None)
            offered_for = dig(last.result, f"{self._k.record_slot.name}.{self._k.record_slot.key}") if last else None
            if last and last.result.get(day) == wish.values.get(day) and offered_for == self._desk.key_of(record):
                known = last
        if known is not None and known.ok:
            return known.result
        return self._desk.read(slot.offered_by, args, wish, record).result

    def _shown(self, tool: str, result: JsonObject) -> Shown | None:
        for slot in self._k.slots.values():
            if slot.offered_by == tool and slot.path in result:
                options = [o[slot.key] if slot.key else o for o in result[slot.path]]
                return Shown(slot.name, tuple(options))
        return None

    def _focus_record(self) -> JsonObject | None:
        """The record in focus as far as it is known without a call."""
        slot = self._k.record_slot
        known = self._desk.memory.latest(slot.offered_by)
        if known is None or not self._desk.frame.focus:
            return None
        return next((r for r in known.result.get(slot.path, []) if r[slot.key] == self._desk.frame.focus), None)


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


def _shifted(day: str, days: int) -> Window:
    """The day so many days on; a week on means that whole week, Monday to Friday."""
    moved = date.fromisoformat(day) + timedelta(days=days)
    if abs(days) < 7:
        return Window(moved.isoformat(), moved.isoformat())
    monday = moved - timedelta(days=moved.weekday())
    return Window(monday.isoformat(), (monday + timedelta(days=4)).isoformat())
