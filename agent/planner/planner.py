"""One planning step: read the message, pursue every wish, and either ask for results or answer.

A step is a pure function of the request. The turn calls it again after each batch of results; it then reads the same
message, finds the results at hand, and gets further. What it must know of earlier turns is the frame stored with its
last message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.planner.batches import BatchListener
from agent.planner.desk import Desk
from agent.planner.frame import Frame, Wish, last_frame
from agent.planner.knowledge import Knowledge
from agent.planner.listening import Listener
from agent.planner.memory import Memory, canonical
from agent.planner.outcome import Each, Fragment, Needs, Proposal
from agent.planner.pursuit import Pursuit
from agent.planner.reading import Clause, Reader
from agent.providers.base import Call, Chunk, ModelRequest, Note, Text
from agent.transcript import AssistantMessage, JsonObject, Message, ToolCall, ToolMessage, UserMessage

PROVIDER = "offline"
_EARLIER_RESULTS = 24
# What no intent was made of is answered from documents only where a passage holds so much of its words.
MOST_HELD = 0.5


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
        self._others: dict[str, tuple[Knowledge, Reader]] = {}  # by audience, from its first message on

    def classify(self, text: str) -> str:
        """The specialist that a first message belongs to."""
        guesses = self._k.classifier.rank(self._k.lexicon.mend(text))
        if guesses and guesses[0].score >= self._k.thresholds["intent"]:
            return guesses[0].intent.specialist
        return self._k.definition.file.default_specialist

    def step(self, request: ModelRequest) -> list[Chunk]:
        """Chunks of this step: calls to make, or the reply."""
        turn = view(request)
        return _Step(*self._mind(request.facts.identity.role), request, turn).run()

    def _mind(self, audience: str) -> tuple[Knowledge, Reader]:
        """What the planner knows when it speaks with this kind of caller."""
        if audience not in self._k.audiences:
            return self._k, self._reader
        if audience not in self._others:
            knowledge = Knowledge(self._k.definition, audience)
            self._others[audience] = knowledge, Reader(knowledge)
        return self._others[audience]


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
        self._pursuit = Pursuit(self._k, self._reader, self._desk)
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
            try:
                self._fragments.append(self._outcome(message))
            except Needs as need:
                self._needs[need.tool, canonical(need.arguments)] = need.arguments
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
        if verdict is not None and verdict.kind == "address_correction" and not self._k.works_on_batches:
            self._specialist = self._specialist or self._frame_specialist()
            return [self._correction(text)]
        ears = BatchListener if self._k.works_on_batches else Listener
        listener = ears(self._k, self._reader, self._facts, self._frame)
        found = listener.hear(text)
        self._frame, self._taken_up = listener.frame, listener.taken_up
        self._specialist = self._specialist or listener.specialist
        serious = self._plain([w for w, _ in found if not self._k.intents[w.intent].small_talk])
        wishes = serious or self._weightiest(found)
        if serious and self._upset(text):
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
        wishes = self._asked_again(self._looked_up(wishes))
        if wishes and self._specialist is None:
            self._specialist = self._k.intents[wishes[0].intent].specialist
        return _distinct(wishes)

    def _plain(self, wishes: list[Wish]) -> list[Wish]:
        """Without a wish that would only ask which of its choices is meant, where another part of the message tells."""
        intents = self._k.intents

        def told(wish: Wish) -> bool:
            family = intents[wish.intent].tell.get("family")
            return any(w is not wish and intents[w.intent].tell.get("family") == family for w in wishes)

        return [w for w in wishes if not (intents[w.intent].choices and told(w))]

    def _upset(self, text: str) -> bool:
        """Whether the message holds feelings that deserve a word before its business."""
        mended = self._k.lexicon.mend(text)
        moods = [i for i in self._k.intents.values() if i.tell.get("prefix")]
        return any(pattern.search(mended) for mood in moods for pattern, _ in mood.cues)

    def _weightiest(self, found: list[tuple[Wish, Clause]]) -> list[Wish]:
        """Of mere talk the part that says most: "fine. bye then" is a goodbye."""
        ranked = sorted(found, key=lambda pair: self._k.intents[pair[0].intent].tell.get("light", 0))
        return [ranked[0][0]] if ranked else []

    def _correction(self, text: str) -> Wish:
        """A correction that came with a yes becomes a note; the definition names the intent for it."""
        intent = self._k.block["correction"]["intent"]
        wish = Wish(intent, values={self._k.block["correction"]["slot"]: text.strip()})
        return wish.with_value(self._k.record_slot.name, self._frame.focus) if self._frame.focus else wish

    def _looked_up(self, wishes: list[Wish]) -> list[Wish]:
        """What no intent was made of may be a question that documents answer."""
        unclear = [wish for wish in wishes if wish.intent == "unknown"]
        if len(unclear) != 1 or len(wishes) > 1 or not self._k.patterns["may_ask"].search(unclear[0].raw):
            return wishes
        try:
            quote = self._desk.quote(unclear[0].raw, holds=MOST_HELD)
        except Needs as need:
            self._needs[need.tool, canonical(need.arguments)] = need.arguments
            return []
        if not quote:
            return wishes
        self._specialist = self._k.intents[self._k.block["questions"]].specialist
        self._add(Fragment(self._desk.render("from_documents", quote=quote), answered=self._k.block["questions"]))
        return []

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
            quote = self._beside(wish)
            outcome = self._pursuit.pursue(wish)
        except Needs as need:
            self._needs[need.tool, canonical(need.arguments)] = need.arguments
            return
        except Each as several:
            for one in several.wishes:
                self._try(one)
            return
        if quote:
            self._add(Fragment(self._desk.render("from_documents", quote=quote), answered=wish.intent))
            intent = self._k.intents[wish.intent]
            if isinstance(outcome, Fragment) and not outcome.answered and intent.goal and not intent.writes:
                return  # what could not be looked up, or only asks which one is meant, adds nothing to it
        if outcome.focus:
            self._pursuit.look_at(outcome.focus)
        if isinstance(outcome, Proposal):
            self._proposals.append(outcome)
            if outcome.remark:
                self._add(Fragment(outcome.remark))
        elif outcome.question and (self._asks() or self._proposals):
            self._queue.append(wish)  # one question a turn; the rest waits its turn
            if outcome.shown is not None and (facts := _without_question(outcome.text)):
                self._add(Fragment(facts))
        else:
            self._add(outcome)

    def _beside(self, wish: Wish) -> str:
        """What documents say of a wish that is put as a question about how things are done; "" for any other."""
        asks = self._k.intents[wish.intent].tell.get("documents")
        if not asks or not re.search(asks, self._k.lexicon.mend(wish.raw)):
            return ""
        return self._desk.quote(self._desk.whole_question(wish.raw), limit=2)

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
        paragraphs = list(dict.fromkeys(f.text for f in self._fragments if f.text))  # two wishes may have one answer
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
        offered = frame.shown if self._taken_up else None  # a pick may yet be changed for another of the same offer
        if self._taken_up:
            frame = replace(frame, wish=None, asked=None, shown=None)
        answered = [f.answered for f in self._fragments if f.answered]
        frame = replace(frame, last=answered[-1] if answered and not self._asks() else None)
        if self._proposals:
            frame = replace(frame, wish=self._proposals[0].wish, asked=None, shown=offered)
        elif opened:
            last = opened[-1]
            frame = replace(frame, wish=last.wish or frame.wish, asked=last.asked, shown=last.shown or frame.shown)
        if shown and not self._proposals:
            frame = replace(frame, shown=shown[-1])
        return replace(frame, focus=focus[-1] if focus else frame.focus, queue=tuple(self._queue[:3]), misses=misses)

    def _outcome(self, message: ToolMessage) -> Fragment:
        """What became of a confirmed action, in words."""
        facts = {"result": message.result, "args": message.args}
        record = message.result.get(self._k.record_slot.name)
        if message.ok:
            return Fragment(self._desk.render(f"done_{message.name}", record=record, **facts))
        return self._desk.failure(message.name, message.result, self._frame.wish, record)

    @property
    def _desk(self) -> Desk:
        return Desk(self._k, self._request, self._frame, self._turn.memory)

    def _render(self, name: str) -> str:
        return self._desk.render(name)

    def _frame_specialist(self) -> str | None:
        if self._turn.by_runtime:
            groups = {t.name: t.group for t in self._request.tools}
            return self._k.definition.file.specialists.get(groups.get(self._turn.by_runtime[0].name, ""))
        if self._frame.wish is not None:
            return self._k.intents[self._frame.wish.intent].specialist
        return None


def _without_question(text: str) -> str:
    """What an answer tells, without the line in which it asks."""
    return "\n".join(line for line in text.splitlines() if not line.rstrip().endswith("?"))


def _distinct(wishes: Sequence[Wish]) -> list[Wish]:
    seen: list[Wish] = []
    for wish in wishes:
        if all((wish.intent, wish.mention, wish.values) != (w.intent, w.mention, w.values) for w in seen):
            seen.append(wish)
    return seen
