"""Finds the record that is meant: by reference, position, properties, place, or because only one fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.planner.desk import Desk
from agent.planner.frame import Shown, Wish
from agent.planner.knowledge import Goal, Knowledge, Slot
from agent.planner.memory import dig
from agent.planner.outcome import Answered, Each, Fragment, Instead
from agent.planner.reading import MIDDLE, Reader, Said, time_windows, words_of
from agent.planner.text import fold
from agent.transcript import JsonObject

ANY = Goal("", {}, {}, {}, {}, {}, (), False)  # any record will do


class Records:
    """The records of one person, as one step sees them."""

    def __init__(self, knowledge: Knowledge, reader: Reader, desk: Desk) -> None:
        self._k = knowledge
        self._reader = reader
        self._desk = desk

    def records(self, slot: Slot) -> list[JsonObject]:
        """Every record of the person, finished ones included."""
        args = dict(slot.args)
        if len(self._desk.facts.identity.clients) > 1:
            args["client_id"] = "all"
        earlier = self._desk.memory.recall(slot.offered_by, args)
        if earlier is None:
            known = self._desk.memory.latest(slot.offered_by, **slot.args)
            if known is not None and (len(self._desk.facts.identity.clients) <= 1 or not known.args.get("client_id")):
                earlier = known
        result = earlier.result if earlier is not None and earlier.ok else self._desk.read(slot.offered_by, args).result
        return list(result[slot.path])

    def find(self, slot: Slot, goal: Goal, wish: Wish) -> JsonObject:
        records = self.records(slot)
        if chosen := wish.values.get(slot.name):
            hit = next((r for r in records if r[slot.key] == chosen), None)
            if hit is not None:
                return self._fit(hit, goal, wish)
        said = self._reader.say(wish.mention, self._desk.today) if wish.mention else None
        matches = self._matches(slot, records, said, wish)
        return self._fit(self._one_of(slot, goal, wish, matches, said, records), goal, wish)

    def _matches(self, slot: Slot, records: list[JsonObject], said: Said | None, wish: Wish) -> list[JsonObject]:
        """Records that what was said may mean; empty when nothing was said about which."""
        if said is None:
            return []
        if not said.references and said.has_address and not self._by_words(records, said):
            raise Answered(Fragment(self._desk.render("unknown_record", said=said.raw)))
        if said.references:
            hits = [r for r in records if any(_is_reference(r, slot.key, ref) for ref in said.references)]
            if not hits:
                raise Answered(Fragment(self._desk.render("unknown_record", said=said.references[0])))
            return hits
        shown = self._desk.frame.shown
        if shown and shown.kind == slot.name:
            by_place = self._by_position(shown.options, said)
            if by_place:
                return [r for r in records if r[slot.key] in by_place]
            # What was just listed is what is spoken of, before anything else that has such a name.
            offered = [r for r in records if r[slot.key] in shown.options]
            hits = self._by_fields(offered, said, lenient=True)
            if len(hits) == 1 or (hits and self._desk.frame.asked == slot.name):
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
                raise Answered(Fragment(self._desk.render("no_such_record", **facts)))
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
        if (named := self._by_day([r for r in active or records if _fits(r, goal.prefer)], said)) is not None:
            return named
        fitting = [r for r in active if _fits(r, goal.prefer)]
        if active:
            if self._desk.frame.focus and (self._k.intents[wish.intent].tell.get("keeps_focus") or goal.tool != ""):
                focused = [r for r in active if r[slot.key] == self._desk.frame.focus]
                if focused and (not goal.own_choice or _fits(focused[0], goal.prefer)):
                    return focused[0]
            if len(fitting) == 1 and not goal.own_choice:
                return fitting[0]
            if said is not None and said.everything and self._k.intents[wish.intent].tell.get("several"):
                raise self._each(slot, wish, fitting or active)
            raise Answered(self._which(slot, wish, fitting if len(fitting) > 1 and not goal.own_choice else active))
        if matches:
            return matches[0]  # all finished
        focused = [r for r in records if r[slot.key] == self._desk.frame.focus]
        spoken_of = (said is not None and said.pointing) or wish.days or wish.times
        if focused and (_fits(focused[0], goal.prefer) or spoken_of):
            return focused[0]
        fitting = [r for r in records if not self._finished(r) and _fits(r, goal.prefer)]
        if len(fitting) == 1:
            return fitting[0]
        if focused and not fitting:
            return focused[0]
        if not fitting:
            raise Answered(
                Fragment(self._desk.render(slot.none, records=[r for r in records if not self._finished(r)]))
            )
        if said is not None and said.everything and self._k.intents[wish.intent].tell.get("several"):
            raise self._each(slot, wish, fitting)
        raise Answered(self._which(slot, wish, fitting))

    def _each(self, slot: Slot, wish: Wish, records: list[JsonObject]) -> Exception:
        """The wish for each of several records; several times go with them in the order in which both are said."""
        said = self._reader.say(wish.mention, self._desk.today)
        if len(said.times) < 2:
            return Each([wish.with_value(slot.name, r[slot.key]) for r in records])
        places = [self._place_in(said.raw, r) for r in records]
        if len(said.times) != len(records) or -1 in places or len(set(places)) < len(places):
            return Answered(Fragment(self._desk.render("one_by_one", records=records), question=True))
        ordered = [r for _, r in sorted(zip(places, records, strict=True), key=lambda pair: pair[0])]
        times = sorted(said.times, key=lambda t: t.span)
        return Each(
            [
                replace(wish.with_value(slot.name, r[slot.key]), times=tuple(time_windows([t])), hours=t.text)
                for r, t in zip(ordered, times, strict=True)
            ]
        )

    def _place_in(self, text: str, record: JsonObject) -> int:
        """Where a text first names what tells a record apart; -1: nowhere."""
        told = " ".join(str(record.get(name) or "") for name in self._k.text_fields)
        found = [fold(text).find(word) for word in words_of(told) - self._k.dull_words if not word.isdigit()]
        return min((at for at in found if at >= 0), default=-1)

    def _by_day(self, records: list[JsonObject], said: Said | None) -> JsonObject | None:
        """ "I can't make it on the 19th": the only one that stands on a day that was named."""
        if said is None:
            return None
        days = {d.start.isoformat() for d in said.days if d.start == d.end}
        hits = [r for r in records if dig(r, self._k.day_slot.stands_at) in days and not self._finished(r)]
        return hits[0] if len(hits) == 1 else None

    def _which(self, slot: Slot, wish: Wish, options: list[JsonObject]) -> Fragment:
        text = self._desk.render(slot.ask, options=options, wish=wish)
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
                text = self._desk.render(answer, record=record, office=self._desk.office(record))
                raise Answered(Fragment(text, "?" in text, focus=record[self._k.record_slot.key]))
        return record

    def find_softly(self, goal: Goal, wish: Wish) -> JsonObject | None:
        """The record that is meant, where the goal can do without one."""
        slot = self._k.record_slot
        said = self._reader.say(wish.mention, self._desk.today) if wish.mention else None
        if not (said and said.names_record) and not self._desk.frame.focus and not goal.prefer:
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
        focused = [r for r in records if r[slot.key] == self._desk.frame.focus]
        if focused:
            return focused[0]
        fitting = [r for r in records if not self._finished(r) and _fits(r, goal.prefer)]
        return fitting[0] if len(fitting) == 1 else None

    def _by_position(self, options: Sequence[str], said: Said) -> list[str]:
        hits = []
        for n in (*said.positions, *said.numbers):
            if n in (-1, MIDDLE) and options:
                hits.append(options[-1 if n == -1 else (len(options) - 1) // 2])
            elif 1 <= n <= len(options):
                hits.append(options[n - 1])
        return hits


def _fits(record: JsonObject, prefer: JsonObject) -> bool:
    return all(record.get(k) in v if isinstance(v, list) else record.get(k) == v for k, v in prefer.items())


def _is_reference(record: JsonObject, key: str, reference: str) -> bool:
    own = str(record[key]).upper()
    return own == reference or own.split("_")[0] == reference or str(record.get("link", "")).endswith(f"/{reference}")
