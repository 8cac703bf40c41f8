"""One planning step: read the message, pursue every wish, and either ask for results or answer.

A step is a pure function of the request. The turn calls it again after each batch of results; it then reads the same
message, finds the results at hand, and gets further. What it must know of earlier turns is the frame stored with its
last message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from agent.planner.frame import Frame, Window, Wish, last_frame
from agent.planner.intents import Guess
from agent.planner.knowledge import Knowledge
from agent.planner.pursuit import Each, Fragment, Memory, Needs, Proposal, Pursuit, canonical
from agent.planner.reading import FAR, MIDDLE, Clause, Reader, Said, narrow, time_windows
from agent.providers.base import Call, Chunk, ModelRequest, Note, Text
from agent.transcript import AssistantMessage, JsonObject, Message, ToolCall, ToolMessage, UserMessage

PROVIDER = "offline"
_EARLIER_RESULTS = 24


@dataclass(frozen=True, slots=True)
class TurnView:
    """The request's messages, taken apart."""

    text: str
    history: tuple[Message, ...]
    memory: Memory
    by_runtime: tuple[ToolMessage, ...]  # results of confirmed actions
    said: frozenset[str]  # paragraphs of this turn's earlier steps
    size: int


def view(request: ModelRequest) -> TurnView:
    """Split the transcript at the last user message."""
    messages = request.messages
    start = max(i for i, m in enumerate(messages) if isinstance(m, UserMessage))
    user = messages[start]
    now: dict[tuple[str, bytes], ToolMessage] = {}
    by_runtime: list[ToolMessage] = []
    said: set[str] = set()
    calls: dict[str, ToolCall] = {}
    for message in messages[start + 1 :]:
        if isinstance(message, AssistantMessage):
            calls.update((c.id, c) for c in message.tool_calls)
            said.update(p for p in message.text.split("\n\n") if p)
        elif isinstance(message, ToolMessage) and message.call_id in calls:
            call = calls[message.call_id]
            if call.by_runtime:
                by_runtime.append(message)
            else:
                now[call.name, canonical(call.args)] = message
    effects = {t.name for t in request.tools if t.effect != "read"}
    earlier: list[ToolMessage] = []
    for message in reversed(messages[:start]):
        if isinstance(message, ToolMessage):
            if message.name in effects or len(earlier) == _EARLIER_RESULTS:
                break  # what was read before a change may no longer hold
            earlier.append(message)
    return TurnView(
        text=user.text if isinstance(user, UserMessage) else "",
        history=messages[:start],
        memory=Memory(now, tuple(earlier)),
        by_runtime=tuple(by_runtime),
        said=frozenset(said),
        size=len(messages),
    )


class Planner:
    """The offline provider's brain for one definition."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._k = knowledge
        self._reader = Reader(knowledge)

    def classify(self, text: str) -> str:
        """The specialist that a first message belongs to."""
        guesses = self._k.classifier.rank(self._k.lexicon.mend(text))
        if guesses and guesses[0].score >= self._k.thresholds["intent"]:
            return guesses[0].intent.specialist
        return self._k.definition.file.default_specialist

    def step(self, request: ModelRequest) -> list[Chunk]:
        """Chunks of this step: calls to make, or the reply."""
        turn = view(request)
        return _Step(self._k, self._reader, request, turn).run()


class _Step:
    def __init__(self, knowledge: Knowledge, reader: Reader, request: ModelRequest, turn: TurnView) -> None:
        self._k = knowledge
        self._reader = reader
        self._request = request
        self._facts = request.facts
        self._turn = turn
        self._today = request.facts.now.date()
        self._frame = last_frame(turn.history, PROVIDER)
        self._fragments: list[Fragment] = []
        self._proposals: list[Proposal] = []
        self._needs: dict[tuple[str, bytes], JsonObject] = {}
        self._queue: list[Wish] = list(self._frame.queue)
        self._specialist: str | None = None
        self._missed = False  # the message was not understood
        self._taken_up = False  # the open wish is pursued in this turn

    def run(self) -> list[Chunk]:
        text = self._settle_verdict()
        wishes = self._wishes(text)
        self._pursuit = Pursuit(self._k, self._reader, self._request, self._frame, self._turn.memory)
        for wish in wishes:
            self._try(wish)
        if not self._needs and not self._asks() and not self._proposals:
            while self._queue and not self._asks() and not self._proposals:
                self._try(self._queue.pop(0))
        if self._needs:
            return self._request_results()
        return self._reply()

    # -- what is to be done -------------------------------------------------------------------------------------

    def _settle_verdict(self) -> str:
        """Report what the runtime did or dropped; returns the text that is left to act on."""
        verdict = self._facts.verdict
        for message in self._turn.by_runtime:
            self._fragments.append(self._outcome(message))
        if self._turn.by_runtime:
            self._frame = replace(self._frame, wish=None, asked=None, shown=None)
        if verdict is None:
            return self._turn.text
        match verdict.kind:
            case "confirm" | "address_correction":
                return "" if verdict.rest == self._turn.text else verdict.rest
            case "decline":
                if not verdict.rest.strip():
                    self._add(Fragment(self._render("declined")))
                    self._frame = replace(self._frame, wish=None, asked=None, shown=None, queue=())
                    self._queue = []
                else:
                    self._frame = replace(self._frame, asked="any")
                return verdict.rest
            case "amend":
                self._frame = replace(self._frame, asked="any")
                return verdict.rest or self._turn.text
            case "hold":
                self._add(Fragment(self._render("on_hold_answer")))
                return ""
            case _:
                return verdict.rest or self._turn.text

    def _wishes(self, text: str) -> list[Wish]:
        if not text.strip():
            return []
        verdict = self._facts.verdict
        if verdict is not None and verdict.kind == "address_correction":
            self._specialist = self._specialist or self._frame_specialist()
            return [self._correction(text)]
        clauses = self._reader.clauses(text, self._today)
        found: list[tuple[Wish, Clause]] = []
        for clause in clauses:
            opened = self._frame.wish
            for wish in self._read(clause, found[-1][0] if found else None):
                if self._taken_up and found and found[-1][0] is opened:
                    found.pop()  # one wish, said in two clauses
                found.append((wish, clause))
        serious = [w for w, _ in found if not self._k.intents[w.intent].small_talk]
        wishes = serious or self._weightiest(found)
        if serious and any(self._k.intents[w.intent].tell.get("prefix") for w, _ in found):
            self._fragments.insert(0, Fragment(self._render("empathy_first")))
        if self._turn.by_runtime:
            done = {m.name for m in self._turn.by_runtime}
            told = {id(w): c.said for w, c in found}
            wishes = [
                w
                for w in wishes
                if w.intent not in self._k.block["idle"]
                and not (self._k.intents[w.intent].goal in done and not told[id(w)].narrows)  # "yes, change it"
            ]
        if verdict is not None and verdict.kind == "decline":
            wishes = [w for w in wishes if w.intent not in self._k.block["idle"]]
            if not wishes:
                self._specialist = self._frame_specialist()
                self._add(Fragment(self._render("declined")))
                self._frame = replace(self._frame, wish=None, asked=None, shown=None)
        if len(wishes) > 1:
            wishes = [w for w in wishes if w.intent != "unknown"] or wishes[:1]
        wishes = self._asked_again(wishes)
        if wishes and self._specialist is None:
            self._specialist = self._k.intents[wishes[0].intent].specialist
        return _distinct(wishes)

    def _weightiest(self, found: list[tuple[Wish, Clause]]) -> list[Wish]:
        """Of mere talk the part that says most: "fine. bye then" is a goodbye."""
        ranked = sorted(found, key=lambda pair: self._k.intents[pair[0].intent].tell.get("light", 0))
        return [ranked[0][0]] if ranked else []

    def _correction(self, text: str) -> Wish:
        """A correction that came with a yes becomes a note; the definition names the intent for it."""
        intent = self._k.block["correction"]["intent"]
        wish = Wish(intent, values={self._k.block["correction"]["slot"]: text.strip()})
        return wish.with_value(self._k.record_slot.name, self._frame.focus) if self._frame.focus else wish

    def _read(self, clause: Clause, before: Wish | None) -> list[Wish]:
        """The wishes of one clause: the open one carried on, or new ones."""
        said, best = clause.said, clause.best
        if said.impossible and not said.days:
            return [Wish("impossible_date", raw=said.impossible[0].reason)]
        if (wish := self._again(clause)) is not None:
            return [wish]
        if (wish := self._carried_on(clause)) is not None:
            self._taken_up = True
            settled = "any" if self._frame.asked in ("choice", "go") else self._frame.asked
            self._frame = replace(self._frame, wish=wish, asked=settled)  # the next clause goes on from here
            return [wish]
        weak = best is None or best.score < self._k.thresholds["intent"]
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

    def _again(self, clause: Clause) -> Wish | None:
        """ "And on the other one?", "Saturdays too?": the last question once more, of something else."""
        last, said, best = self._frame.last, clause.said, clause.best
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
        frame, said, best = self._frame, clause.said, clause.best
        if frame.wish is None or frame.asked is None:
            return None
        verdict = self._facts.verdict
        other = best is not None and best.cue >= self._k.thresholds["alone"]
        amends = verdict is not None and verdict.kind == "amend" and (said.narrows or self._relates(said))
        if amends and self._has_when(frame.wish) and not self._turns_away(best):
            return self._continue(frame.wish, said)
        if best is not None and other and best.intent.tell.get("stops"):
            self._specialist = self._k.intents[frame.wish.intent].specialist
            self._frame = replace(frame, wish=None, asked=None, shown=None)
            return None
        if frame.asked == "choice":
            return self._choice(clause)
        slot = self._k.slots.get(frame.asked)
        if slot is not None and slot.kind == "text":
            if (
                other
                and best is not None
                and (best.intent.tell.get("stops") or not best.intent.tell.get("is_text", True))
            ):
                return None
            return frame.wish.with_value(slot.name, said.raw.strip())
        if frame.asked == "go" and self._k.patterns["yes"].match(said.mended):
            return self._continue(self._settled_on(frame.wish), said)
        asks_when = frame.asked in (self._k.day_slot.name, self._k.time_slot.name)
        if asks_when and (said.days or said.positions) and best is not None and best.cue < self._k.thresholds["strong"]:
            other = other and bool(best.intent.tell.get("family") == "appointment")
        if best is not None and other:
            mine = self._k.intents[frame.wish.intent]
            refines = best.intent.tell.get("refines") or best.intent.name == mine.name
            same = best.intent.tell.get("family") is not None and best.intent.tell.get("family") == mine.tell.get(
                "family"
            )
            if not refines:
                if not same:
                    return None
                return (
                    self._continue(replace(frame.wish, intent=best.intent.name), said)
                    if self._same_goal(best)
                    else None
                )
            if not said.narrows and not said.pointing and best.intent.name != mine.name:
                return None
            return self._continue(frame.wish, said)
        if (said.days or said.times) and not self._has_when(frame.wish):
            return None
        if said.narrows or self._relates(said):
            asking = said.raw.rstrip().endswith("?")
            wish = frame.wish if asking else self._settled_on(frame.wish)
            return replace(self._continue(wish, said), asking=asking)
        return None

    def _has_when(self, wish: Wish) -> bool:
        """Whether days and times are part of what the wish is for."""
        goal = self._k.intents[wish.intent].goal
        return goal is not None and self._k.day_slot.name in self._k.goals[goal].needs.values()

    def _turns_away(self, best: Guess | None) -> bool:
        """Whether an intent is plainly for another end than the open wish, though it may name days and times too."""
        if best is None or self._frame.wish is None or best.cue < self._k.thresholds["strong"]:
            return False
        mine = self._k.intents[self._frame.wish.intent].tell.get("family")
        return mine != best.intent.tell.get("family")

    def _relates(self, said: Said) -> bool:
        """Whether it speaks of a day or time only in relation to the one on the table."""
        if self._k.patterns["sooner"].search(said.mended) or self._k.patterns["later"].search(said.mended):
            return True
        return bool(self._neighbour(said) or self._later(said) or self._k.patterns["unchanged"].search(said.mended))

    def _settled_on(self, wish: Wish) -> Wish:
        """Whoever picks from an offer wants it, though it began as a question."""
        return replace(wish, intent=self._k.intents[wish.intent].tell.get("leads_to", wish.intent))

    def _same_goal(self, best: Guess) -> bool:
        frame_wish = self._frame.wish
        return frame_wish is not None and best.intent.goal == self._k.intents[frame_wish.intent].goal

    def _continue(self, wish: Wish, said: Said) -> Wish:
        """The open wish with what this clause adds: a pick from what was shown, or narrower days and times."""
        frame, record = self._frame, self._k.record_slot.name
        day, clock = self._k.day_slot.name, self._k.time_slot.name
        wish = replace(wish, raw=said.raw)
        if said.names_record or (frame.asked == record and not said.days):
            wish = replace(wish, mention=said.raw)
            if self._k.patterns["unchanged"].search(said.mended):
                wish = _reopened(wish, day, clock)
            if record in wish.values:
                wish = wish.without(record).with_value("was", wish.values[record])
        if self._k.intents[wish.intent].tell.get("later") or self._later(said):
            wish = self._after_shown(wish)
        said = self._as_spoken_of(wish, said)
        if (value := wish.values.get(clock)) and not said.times and (window := self._beside(said, value)):
            return replace(wish.without(clock), times=(window,), hours=said.raw)
        picked = self._picked(said, wish)
        if picked is not None:
            kind, choice = picked
            wish = wish.without(clock) if kind == day else wish
            wish = replace(wish, times=() if kind == clock else wish.times).with_value(kind, choice)
            return narrow(wish, replace(said, days=()), self._today) if kind == day else wish
        if (value := wish.values.get(day)) and not said.days and (step := self._neighbour(said)):
            moved = (date.fromisoformat(value) + timedelta(days=step)).isoformat()
            return replace(_reopened(wish, day, clock), days=(Window(moved, moved),))
        if said.days and not said.times and clock in wish.values:
            wish = _reopened(wish, day, clock)
        wish = self._relative(wish, said)
        self._note_constraints(said)
        expects_time = frame.asked in (clock, "any", "go") or day in wish.values or bool(said.days)
        times = tuple(t for t in said.times if t.relation == "at" and (t.explicit or expects_time))
        return narrow(wish, replace(said, times=times), self._today)

    def _relative(self, wish: Wish, said: Said) -> Wish:
        """ "A day later", "the same time": measured from where the record stands now."""
        if (step := self._neighbour(said)) and self._k.day_slot.name not in wish.values:
            wish = replace(wish, shift=step)
        if self._k.patterns["unchanged"].search(said.mended) and self._k.time_slot.name not in wish.values:
            wish = replace(wish, same_time=True)
        return wish

    def _as_spoken_of(self, wish: Wish, said: Said) -> Said:
        """ "Tuesday at 8" with a Tuesday on the table means that one, not the next there is."""
        value = wish.values.get(self._k.day_slot.name)
        if value is None or self._k.patterns["other_week"].search(said.mended):
            return said
        days = tuple(
            m
            for m in said.days
            if not (m.kind == "weekday" and m.relation == "on" and m.start.weekday() == _weekday(value))
        )
        return replace(said, days=days)

    def _beside(self, said: Said, clock: str) -> Window | None:
        """ "Anything earlier?": the hours before the one on the table; "later": those after it."""
        if self._k.patterns["sooner"].search(said.mended):
            return Window("00:00", clock)
        return (
            Window(f"{clock[:4]}{int(clock[4]) + 1}", "24:00")
            if self._k.patterns["later"].search(said.mended)
            else None
        )

    def _neighbour(self, said: Said) -> int:
        """ "The day after" the one spoken of: 1, "the day before": -1, else 0."""
        if self._k.patterns["day_after"].search(said.mended):
            return 1
        return -1 if self._k.patterns["day_before"].search(said.mended) else 0

    def _later(self, said: Said) -> bool:
        shown = self._frame.shown
        further = self._k.patterns["further"].search(said.mended)
        return bool(further) and shown is not None and shown.kind == self._k.day_slot.name and not said.days

    def _after_shown(self, wish: Wish) -> Wish:
        """Days after the last one on show, for whoever wants to see more."""
        shown = self._frame.shown
        if shown is None or shown.kind != self._k.day_slot.name or not shown.options:
            return wish
        following = date.fromisoformat(shown.options[-1]) + timedelta(days=1)
        wish = wish.without(self._k.day_slot.name, self._k.time_slot.name)
        return replace(wish, days=(Window(following.isoformat(), FAR),), pick=None)

    def _picked(self, said: Said, wish: Wish) -> tuple[str, str] | None:
        """An option of the last offer, by position, by bare number, or by the only one that fits a weekday."""
        shown = self._frame.shown
        day, clock = self._k.day_slot.name, self._k.time_slot.name
        if shown is None or shown.kind == self._k.record_slot.name:
            return None
        options = shown.options + shown.more
        if shown.kind == day:
            if self._k.patterns["that_day"].search(said.mended) and not said.days:
                return day, shown.options[0]
            named = [m for m in said.days if m.kind in ("weekday", "day") and m.relation == "on"]
            if (
                len(named) == 1
                and named[0].kind == "weekday"
                and not self._k.patterns["other_week"].search(said.mended)
            ):
                same = [o for o in shown.options if _weekday(o) == named[0].start.weekday()]
                if len(same) == 1:
                    return day, same[0]
            if said.days:
                return None
        if said.positions and not said.days:
            n = said.positions[0]
            if n == MIDDLE:
                return shown.kind, shown.options[(len(shown.options) - 1) // 2]
            if n == -1 or 1 <= n <= len(shown.options):
                return shown.kind, shown.options[n if n == -1 else n - 1]
        bare = [t.start.hour if t.kind == "point" else 0 for t in said.times if not t.explicit]
        numbers = said.numbers or tuple(bare)
        if shown.kind == day and len(numbers) == 1 and not said.days and not [t for t in said.times if t.explicit]:
            text = "".join(c for c in said.raw if c.isdigit())
            n = int(text) if text and len(text) <= 2 else numbers[0]
            if 1 <= n <= len(shown.options):
                return day, shown.options[n - 1]
            by_day = [o for o in options if int(o[-2:]) == n]
            if len(by_day) == 1:
                return day, by_day[0]
        if shown.kind == clock and len(said.numbers) == 1 and not said.times:
            n = said.numbers[0]
            if 1 <= n <= len(shown.options):
                return clock, shown.options[n - 1]
        return None

    def _choice(self, clause: Clause) -> Wish | None:
        frame = self._frame
        if frame.wish is None:
            return None
        choices = self._k.intents[frame.wish.intent].choices
        said = clause.said
        # A faint likeness to an example is no choice: "the first" counts positions.
        named = next((g.intent.name for g in clause.guesses if g.intent.name in choices and g.cue > 0), None)
        if named is None and said.positions and 1 <= said.positions[0] <= len(choices):
            named = choices[said.positions[0] - 1]
        if named is None and said.narrows:
            named = choices[0]
        if named is None:
            return None
        wish = replace(frame.wish, intent=named)
        return self._continue(replace(wish, days=()), said)

    def _begun(self, best: Guess, said: Said) -> list[Wish]:
        """A new wish, with what the clause says and what carries over from the open one of the same family."""
        intent = best.intent
        wish = Wish(intent.name, mention=said.raw, raw=said.raw)
        frame = self._frame
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
        wish = self._relative(narrow(wish, replace(said, times=explicit), self._today), said)
        self._note_constraints(said)
        return self._spread(self._placed(wish, intent, said), said)

    def _note_constraints(self, said: Said) -> None:
        """Standing wishes, such as mornings only or never on a weekday, hold for every later offer."""
        frame = self._frame
        standing = bool(self._k.patterns["standing"].search(said.mended))
        refused = tuple(d for m in said.days if m.relation == "not" for d in m.weekdays)
        spoken = [t for t in said.times if t.kind == "window" and t.relation == "at"]
        if standing and spoken:
            words = " / ".join(t.text for t in spoken)
            frame = replace(frame, times=tuple(time_windows(spoken)), standing=words)
        if refused:
            frame = replace(frame, not_weekdays=tuple(sorted({*frame.not_weekdays, *refused})))
        self._frame = frame

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
                elif unknown := self._unknown_place(said):
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
                return [replace(wish, mention=value) for value in values]
        return [wish]

    def _unclear(self, said: Said) -> list[Wish]:
        """No intent stands out: a record with a day or time is to be booked, one alone to be described."""
        frame, shown, record = self._frame, self._frame.shown, self._k.record_slot.name
        if frame.wish is not None and frame.asked == record:
            return [replace(frame.wish, mention=said.raw)]
        points = shown is not None and shown.kind == record and bool(said.numbers or said.positions)
        # A bare "2" beside a list of records counts them; it is no time of day.
        times = [t for t in said.times if t.explicit or not points]
        if (said.days or times) and (frame.focus or said.names_record or points):
            return self._begun(Guess(self._k.intents[self._k.block["bare_day"]], 1.0, 1.0), said)
        if said.names_record or points:
            return self._begun(Guess(self._k.intents[self._k.block["bare_record"]], 1.0, 1.0), said)
        return [Wish("unknown", raw=said.raw)]

    def _asked_again(self, wishes: list[Wish]) -> list[Wish]:
        """With a question open, what was not understood is no answer to it: it is put again, once."""
        frame = self._frame
        idle = all(w.intent in self._k.block["idle"] for w in wishes)
        if not wishes or not idle or frame.wish is None or frame.asked not in self._k.slots or frame.misses:
            return wishes
        self._missed = True
        self._add(Fragment(self._render("not_understood")))
        return [frame.wish]

    # -- doing it -----------------------------------------------------------------------------------------------

    def _try(self, wish: Wish) -> None:
        if self._needs and not self._reader.say(wish.mention, self._today).names_record:
            return  # what is meant may depend on the wish before
        try:
            outcome = self._pursuit.pursue(wish)
        except Needs as need:
            self._needs[need.tool, canonical(need.arguments)] = need.arguments
            return
        except Each as several:
            for one in several.wishes:
                self._try(one)
            return
        if outcome.focus:
            self._pursuit.look_at(outcome.focus)
        if isinstance(outcome, Proposal):
            self._proposals.append(outcome)
            if outcome.remark:
                self._add(Fragment(outcome.remark))
        elif outcome.question and (self._asks() or self._proposals):
            self._queue.append(wish)  # one question a turn; the rest waits its turn
        else:
            self._add(outcome)

    def _add(self, fragment: Fragment) -> None:
        if fragment.text or fragment.wish:
            self._fragments.append(fragment)

    def _asks(self) -> bool:
        return any(f.question for f in self._fragments)

    def _request_results(self) -> list[Chunk]:
        calls: list[Chunk] = []
        for n, ((tool, _), args) in enumerate(self._needs.items()):
            calls.append(Call(ToolCall(f"plan_{self._turn.size}_{n}", tool, args)))
        return [*calls, Note(state=self._frame.to_json(), specialist=self._specialist)]

    def _reply(self) -> list[Chunk]:
        paragraphs = [f.text for f in self._fragments if f.text]
        text = "\n\n".join(p for p in paragraphs if p not in self._turn.said)
        chunks: list[Chunk] = []
        gated = self._proposals
        if not text and not gated and not self._turn.said:
            text = self._render("unknown")
        if text:
            chunks.append(Text(text))
        for n, proposal in enumerate(gated):
            chunks.append(Call(ToolCall(f"plan_{self._turn.size}_{n}", proposal.tool, proposal.args)))
        chunks.append(Note(state=self._next_frame().to_json(), specialist=self._specialist or self._frame_specialist()))
        return chunks

    def _next_frame(self) -> Frame:
        frame = self._frame
        opened = [f for f in self._fragments if f.wish is not None or f.asked]
        shown = [f.shown for f in self._fragments if f.shown is not None]
        focus = [f.focus for f in self._fragments if f.focus] + [p.focus for p in self._proposals if p.focus]
        misses = frame.misses + 1 if self._missed else 0
        if self._taken_up:
            frame = replace(frame, wish=None, asked=None, shown=None)
        answered = [f.answered for f in self._fragments if f.answered]
        frame = replace(frame, last=answered[-1] if answered and not self._asks() else None)
        if self._proposals:
            frame = replace(frame, wish=self._proposals[0].wish, asked=None, shown=None)
        elif opened:
            last = opened[-1]
            frame = replace(frame, wish=last.wish or frame.wish, asked=last.asked, shown=last.shown or frame.shown)
        if shown and not self._proposals:
            frame = replace(frame, shown=shown[-1])
        return replace(frame, focus=focus[-1] if focus else frame.focus, queue=tuple(self._queue[:3]), misses=misses)

    def _outcome(self, message: ToolMessage) -> Fragment:
        """What became of a confirmed action, in words."""
        facts = {"result": message.result, "args": message.args}
        pursuit = Pursuit(self._k, self._reader, self._request, self._frame, self._turn.memory)
        if message.ok:
            return Fragment(pursuit.render(f"done_{message.name}", record=message.result.get("project"), **facts))
        wish = self._frame.wish
        return pursuit._failure(message.name, message.result, wish, message.result.get("project"))

    def _render(self, name: str) -> str:
        return Pursuit(self._k, self._reader, self._request, self._frame, self._turn.memory).render(name)

    def _frame_specialist(self) -> str | None:
        if self._turn.by_runtime:
            groups = {t.name: t.group for t in self._request.tools}
            return self._k.definition.file.specialists.get(groups.get(self._turn.by_runtime[0].name, ""))
        if self._frame.wish is not None:
            return self._k.intents[self._frame.wish.intent].specialist
        return None


def _reopened(wish: Wish, day: str, clock: str) -> Wish:
    """The same day and time, to be looked for again: what was chosen for one record is only wished for another."""
    if value := wish.values.get(day):
        wish = replace(wish, days=(Window(value, value),))
    if value := wish.values.get(clock):
        wish = replace(wish, times=(Window(value, f"{value[:3]}{int(value[3:]) + 1:02d}"),))
    return wish.without(day, clock)


def _weekday(day: str) -> int:
    return date.fromisoformat(day).weekday()


def _distinct(wishes: Sequence[Wish]) -> list[Wish]:
    seen: list[Wish] = []
    for wish in wishes:
        if all((wish.intent, wish.mention, wish.values) != (w.intent, w.mention, w.values) for w in seen):
            seen.append(wish)
    return seen
