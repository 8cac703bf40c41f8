"""From a message to wishes, in the light of what is open: which wish goes on, which begins, which is said once more."""

from __future__ import annotations

from dataclasses import replace

from agent.planner.adjusting import Adjuster
from agent.planner.frame import Frame, Wish
from agent.planner.intents import Guess
from agent.planner.knowledge import Knowledge
from agent.planner.reading import Clause, Reader, Said, narrow, time_windows
from agent.providers.base import TurnFacts


class Listener:
    """Hears one message. Afterwards `frame` holds what it changed: standing constraints, a wish taken further."""

    def __init__(self, knowledge: Knowledge, reader: Reader, facts: TurnFacts, frame: Frame) -> None:
        self._k = knowledge
        self._reader = reader
        self._facts = facts
        self._today = facts.now.date()
        self.frame = frame
        self.taken_up = False  # the open wish is pursued in this turn
        self.specialist: str | None = None  # whose wish was stopped

    def hear(self, text: str) -> list[tuple[Wish, Clause]]:
        """The wishes of a message with the clauses they come from, in their order."""
        found: list[tuple[Wish, Clause]] = []
        for clause in self._reader.clauses(text, self._today):
            opened = self.frame.wish
            for wish in self._read(clause, found[-1][0] if found else None):
                if self.taken_up and found and found[-1][0] is opened:
                    found.pop()  # one wish, said in two clauses
                found.append((wish, clause))
        return found

    @property
    def _adjuster(self) -> Adjuster:
        return Adjuster(self._k, self.frame, self._today)

    def _continue(self, wish: Wish, said: Said) -> Wish:
        """The open wish with what this clause adds to it."""
        self._note_constraints(said)
        return self._adjuster.adjust(wish, said)

    def _read(self, clause: Clause, before: Wish | None) -> list[Wish]:
        """The wishes of one clause: the open one carried on, or new ones."""
        said, best = clause.said, clause.best
        if said.impossible and not said.days:
            return [self._impossible(clause)]
        if best is not None and best.intent.choices and said.days:
            # The other day is named already, so there is nothing to choose.
            best = next((g for g in clause.guesses if g.intent.name in best.intent.choices and g.cue > 0), best)
        if (wish := self._again(clause)) is not None:
            return [wish]
        if (wish := self._carried_on(clause)) is not None:
            self.taken_up = True
            settled = "any" if self.frame.asked in ("choice", "go") else self.frame.asked
            self.frame = replace(self.frame, wish=wish, asked=settled)  # the next clause goes on from here
            return [wish]
        weak = best is None or best.score < self._k.thresholds["intent"] or (best.voted and self._points(said))
        if weak or (best is not None and best.intent.small_talk and (said.days or said.times or said.names_record)):
            if (
                before is not None
                and (said.names_record or said.has_address)
                and self._k.intents[before.intent].tell.get("several")
            ):
                same = Guess(self._k.intents[before.intent], 1.0, 1.0)
                return self._begun(same, said)
            if before is not None and not self._k.intents[before.intent].small_talk:
                return []
            return self._unclear(said)
        return self._begun(best, said) if best is not None else []

    def _impossible(self, clause: Clause) -> Wish:
        """A day that does not exist: the wish stays open for one that does."""
        said, best = clause.said, clause.best
        open_wish = self.frame.wish
        if open_wish is None:
            strong = best is not None and best.score >= self._k.thresholds["intent"]
            open_wish = (self._begun(best, said) if best is not None and strong else self._unclear(said))[0]
        values = {**open_wish.values, "for": open_wish.intent}
        return replace(open_wish, intent="impossible_date", values=values, raw=said.impossible[0].reason)

    def _again(self, clause: Clause) -> Wish | None:
        """ "And on the other one?", "Saturdays too?": the last question once more, of something else."""
        last, said, best = self.frame.last, clause.said, clause.best
        if last is None or (best is not None and best.cue >= self._k.thresholds["alone"]):
            return None
        intent = self._k.intents[last]
        takes_place = "place" in intent.tell.get("takes", ())
        place = takes_place and self._reader.places(said.raw, self._facts.locations)
        if takes_place and not place and (unknown := self._unknown_place(said, "place_alone")):
            return Wish("unknown_place", raw=unknown, values={"for": last})
        elliptic = intent.tell.get("again") and self._k.patterns["again"].search(said.mended)
        if place or (elliptic and (said.days or said.names_record)):
            return self._begun(Guess(intent, 1.0, 1.0), said)[0]
        return None

    def _carried_on(self, clause: Clause) -> Wish | None:
        """The open wish, when the clause answers the question it hangs on, changes it, or narrows it."""
        frame, said = self.frame, clause.said
        if frame.wish is None or frame.asked is None:
            return None
        if self._amends(clause, frame.wish):
            return self._continue(frame.wish, said)
        if frame.asked == "choice" and (chosen := self._choice(clause)) is not None:
            return chosen
        if self._stops(clause):
            self.specialist = self._k.intents[frame.wish.intent].specialist
            self.frame = replace(frame, wish=None, asked=None, shown=None)
            return None
        slot = self._k.slots.get(frame.asked)
        if frame.asked == "choice":
            return None
        if slot is not None and slot.kind == "text":
            return None if self._wants_else(clause) else frame.wish.with_value(slot.name, said.raw.strip())
        if frame.asked == "go" and self._k.patterns["yes"].match(said.mended):
            return self._continue(self._settled_on(frame.wish), said)
        if (rival := self._rival(clause)) is not None:
            return self._refined(frame.wish, rival, said)
        return self._narrowed(frame.wish, said)

    def _amends(self, clause: Clause, wish: Wish) -> bool:
        """Whether a changed detail of what waits for a yes is meant."""
        verdict = self._facts.verdict
        if verdict is None or verdict.kind != "amend" or not self._has_when(wish):
            return False
        speaks_of_it = clause.said.narrows or self._adjuster.relates(clause.said)
        return speaks_of_it and not self._turns_away(clause.best)

    def _stops(self, clause: Clause) -> bool:
        best = clause.best
        return best is not None and best.cue >= self._k.thresholds["alone"] and bool(best.intent.tell.get("stops"))

    def _wants_else(self, clause: Clause) -> bool:
        """Whether a text that was asked for is no text but another wish."""
        best = clause.best
        if best is None or best.cue < self._k.thresholds["alone"]:
            return False
        return not best.intent.tell.get("is_text", True)

    def _rival(self, clause: Clause) -> Guess | None:
        """An intent that stands by itself beside the open wish; weaker ones yield to a day or position named."""
        best, said = clause.best, clause.said
        if best is None or best.cue < self._k.thresholds["alone"]:
            return None
        asks_when = self.frame.asked in self._k.when
        if asks_when and (said.days or said.positions) and best.cue < self._k.thresholds["strong"]:
            return best if self._same_family(best) else None
        return best

    def _refined(self, wish: Wish, rival: Guess, said: Said) -> Wish | None:
        """The open wish under another intent of the same kind; None when the rival is a wish of its own."""
        same = rival.intent.name == wish.intent
        if not same and not rival.intent.tell.get("refines"):
            akin = rival.intent.tell.get("family") is not None and self._same_family(rival)
            if akin and self._same_goal(rival):
                return self._continue(replace(wish, intent=rival.intent.name), said)
            return None
        if not same and not said.narrows and not said.pointing:
            return None
        return self._continue(wish, said)

    def _narrowed(self, wish: Wish, said: Said) -> Wish | None:
        """The open wish with the days, times or options that a clause without an intent of its own names."""
        speaks_of_when = said.days or said.times or self._adjuster.relates(said)
        if speaks_of_when and not self._has_when(wish):
            return None
        if not said.narrows and not self._adjuster.relates(said):
            return None
        asking = said.raw.rstrip().endswith("?")
        return replace(self._continue(wish if asking else self._settled_on(wish), said), asking=asking)

    def _has_when(self, wish: Wish) -> bool:
        """Whether days and times are part of what the wish is for."""
        goal = self._k.intents[wish.intent].goal
        return goal is not None and self._k.day_slot.name in self._k.goals[goal].needs.values()

    def _turns_away(self, best: Guess | None) -> bool:
        """Whether an intent is plainly for another end than the open wish, though it may name days and times too."""
        if best is None or self.frame.wish is None or best.cue < self._k.thresholds["strong"]:
            return False
        mine = self._k.intents[self.frame.wish.intent].tell.get("family")
        return mine != best.intent.tell.get("family")

    def _same_family(self, best: Guess) -> bool:
        wish = self.frame.wish
        return wish is not None and best.intent.tell.get("family") == self._k.intents[wish.intent].tell.get("family")

    def _settled_on(self, wish: Wish) -> Wish:
        """Whoever picks from an offer wants it, though it began as a question."""
        return replace(wish, intent=self._k.intents[wish.intent].tell.get("leads_to", wish.intent))

    def _same_goal(self, best: Guess) -> bool:
        frame_wish = self.frame.wish
        return frame_wish is not None and best.intent.goal == self._k.intents[frame_wish.intent].goal

    def _choice(self, clause: Clause) -> Wish | None:
        frame = self.frame
        if frame.wish is None:
            return None
        choices = self._k.intents[frame.wish.intent].choices
        said = clause.said
        # A faint likeness to an example is no choice: "the first" counts positions.
        named = next((g.intent.name for g in clause.guesses if g.intent.name in choices and g.cue > 0), None)
        if named is None and said.positions and 1 <= said.positions[0] <= len(choices):
            named = choices[said.positions[0] - 1]
        if named is None and (said.narrows or self._adjuster.relates(said)):
            named = choices[0]
        if named is None:
            return None
        wish = replace(frame.wish, intent=named)
        return self._continue(replace(wish, days=()), said)

    def _begun(self, best: Guess, said: Said) -> list[Wish]:
        """A new wish, with what the clause says and what carries over from the open one of the same family."""
        intent = best.intent
        wish = Wish(intent.name, mention=said.raw, raw=said.raw)
        frame = self.frame
        if frame.wish is not None and intent.tell.get("family") and not said.names_record:
            mine = self._k.intents[frame.wish.intent]
            if mine.tell.get("family") == intent.tell.get("family"):
                slots = (self._k.record_slot.name, self._k.day_slot.name, self._k.time_slot.name)
                kept = {k: v for k, v in frame.wish.values.items() if k in slots}
                wish = replace(frame.wish, intent=intent.name, values=kept, raw=said.raw, mention=frame.wish.mention)
                wish = self._continue(wish, said)
        if intent.tell.get("whole_text"):
            wish = wish.with_value(intent.tell["text_slot"], said.raw.strip())
        if intent.captures and (text := self._reader.capture(intent, said.raw)):
            wish = wish.with_value(intent.tell.get("text_slot", "text"), text)
            # What stands in the text is no mention of a record, a day or a time.
            said = self._reader.say(said.raw.replace(text, " ").strip(), self._today)
            wish = replace(wish, mention=said.raw)
        spoken_of = frame.wish.values.get(self._k.day_slot.name) if frame.wish is not None else None
        if spoken_of and not said.days and self._k.patterns["that_day"].search(said.mended):
            wish = wish.with_value(self._k.day_slot.name, spoken_of)
        explicit = tuple(t for t in said.times if t.relation == "at" and (t.explicit or said.days))
        wish = self._adjuster.relative(narrow(wish, replace(said, times=explicit), self._today, *self._k.when), said)
        self._note_constraints(said)
        return self._spread(self._placed(wish, intent, said), said)

    def _note_constraints(self, said: Said) -> None:
        """Standing wishes, such as mornings only or never on a weekday, hold for every later offer."""
        frame = self.frame
        standing = bool(self._k.patterns["standing"].search(said.mended))
        refused = tuple(d for m in said.days if m.relation == "not" for d in m.weekdays)
        spoken = [t for t in said.times if t.kind == "window" and t.relation == "at"]
        if standing and spoken:
            words = " / ".join(t.text for t in spoken)
            frame = replace(frame, times=tuple(time_windows(spoken)), standing=words)
        if refused:
            frame = replace(frame, not_weekdays=tuple(sorted({*frame.not_weekdays, *refused})))
        self.frame = frame

    def _placed(self, wish: Wish, intent: object, said: Said) -> Wish:
        """With the location, status or category that a listing was narrowed to."""
        tell = self._k.intents[wish.intent].tell
        for slot in tell.get("takes", ()):
            if slot == "place":
                places = self._reader.places(said.raw, self._facts.locations)
                if len(places) == 1:
                    wish = wish.with_value("place", places[0].client_id)
                elif said.everything or len(places) > 1:
                    wish = wish.with_value("place", "all") if len(self._facts.identity.clients) > 1 else wish
                elif unknown := self._unknown_place(said) or self._unknown_place(said, "place_name"):
                    wish = replace(wish.with_value("for", wish.intent), intent="unknown_place", raw=unknown)
            elif slot in said.fields:
                wish = wish.with_value(slot, said.fields[slot][0])
        return wish

    def _unknown_place(self, said: Said, pattern: str = "place") -> str | None:
        match = self._k.patterns[pattern].search(said.raw)
        if match is None:
            return None
        name = match.group("place")
        word = self._k.lexicon.mend(name)
        known = self._k.lexicon.is_known(word) or any(f.search(word) for x in self._k.fields for f in x.values.values())
        return None if known or self._reader.say(name, self._today).days else name

    def _spread(self, wish: Wish, said: Said) -> list[Wish]:
        """One wish for each of several records named with "and" or "both"."""
        tell = self._k.intents[wish.intent].tell
        if len(said.references) > 1:
            return [replace(wish, mention=reference) for reference in said.references]
        if tell.get("each_place"):
            places = self._reader.places(said.raw, self._facts.locations)
            if len(places) > 1:
                return [wish.with_value("place", place.client_id) for place in places]
        if not tell.get("several") or not self._k.patterns["several"].search(said.mended):
            return [wish]
        for field in self._k.fields:
            values = said.fields.get(field.name, ())
            if not field.soft and len(values) > 1:
                return [replace(wish, mention=self._reader.part_naming(field.values[v], said.raw, v)) for v in values]
        return [wish]

    def _points(self, said: Said) -> bool:
        """Whether it counts one of the records on show."""
        shown = self.frame.shown
        return shown is not None and shown.kind == self._k.record_slot.name and bool(said.numbers or said.positions)

    def _unclear(self, said: Said) -> list[Wish]:
        """No intent stands out: a record with a day or time is to be booked, one alone to be described."""
        frame, record = self.frame, self._k.record_slot.name
        if frame.wish is not None and frame.asked == record:
            return [replace(frame.wish, mention=said.raw)]
        points = self._points(said)
        # A bare "2" beside a list of records counts them; it is no time of day.
        times = [t for t in said.times if t.explicit or not points]
        if (said.days or times) and (frame.focus or said.names_record or points):
            return self._begun(Guess(self._k.intents[self._k.block["bare_day"]], 1.0, 1.0), said)
        if frame.focus and self._adjuster.relates(said):
            return self._begun(Guess(self._k.intents[self._k.block["bare_day"]], 1.0, 1.0), said)
        if said.names_record or points:
            return self._begun(Guess(self._k.intents[self._k.block["bare_record"]], 1.0, 1.0), said)
        return [Wish("unknown", raw=said.raw)]
