"""What every attempt of a step works with: the results at hand, the frame, and the words to answer in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.dates import parse_time
from agent.extracts import words
from agent.passages import PART
from agent.planner.frame import Frame, Shown, Wish
from agent.planner.knowledge import Knowledge
from agent.planner.memory import Memory
from agent.planner.outcome import Answered, Fragment, Needs
from agent.planner.quoting import HOLDS, quoted
from agent.providers.base import ModelRequest
from agent.transcript import JsonObject, ToolMessage, UserMessage
from tools.contract import Location

QUERY_CHARS = 1_000


class Desk:
    """Shared by the attempts of one step."""

    def __init__(self, knowledge: Knowledge, request: ModelRequest, frame: Frame, memory: Memory) -> None:
        self._k = knowledge
        self.facts = request.facts
        self.frame = frame
        self.memory = memory
        self.today = request.facts.now.date()
        self.tools = {t.name: t for t in request.tools}
        self._said = [m.text for m in reversed(request.messages) if isinstance(m, UserMessage)]
        self._answers = knowledge.answers[id(knowledge.definition.wording_for(self._said))]

    def attempt(self, tool: str, args: JsonObject) -> ToolMessage:
        message = self.memory.recall(tool, args)
        if message is None:
            raise Needs(tool, args)
        return message

    def read(
        self, tool: str, args: JsonObject, wish: Wish | None = None, record: JsonObject | None = None
    ) -> ToolMessage:
        message = self.attempt(tool, args)
        if not message.ok:
            raise Answered(self.failure(tool, message.result, wish, record))
        return message

    def failure(self, tool: str, result: JsonObject, wish: Wish | None, record: JsonObject | None) -> Fragment:
        """The most specific error template there is: tool and code, code, or the general one."""
        code = str(result.get("code", "error"))
        names = (f"error_{tool}_{code}", f"error_{code}", "error")
        name = next(n for n in names if n in self._answers)
        text = self.render(name, result=result, record=record, office=self.office(record))
        return self._with_what_is_left(text, result, wish, record)

    def _with_what_is_left(
        self, text: str, result: JsonObject, wish: Wish | None, record: JsonObject | None
    ) -> Fragment:
        """A failure that names other options leaves the wish open for one of them."""
        day, clock = self._k.day_slot, self._k.time_slot
        shown: Shown | None = None
        if times := result.get("remaining") or result.get("slots"):
            shown = Shown(clock.name, tuple(clock_of(t) for t in times))
            wish = replace(wish.without(clock.name), times=(), pick=None) if wish else None
        elif days := result.get("nearest"):
            shown = Shown(day.name, tuple(d[day.key] for d in days))
            wish = replace(wish.without(day.name, clock.name), days=(), times=(), pick=None) if wish else None
        asked = shown.kind if shown else None
        return Fragment(text, "?" in text, asked, shown, wish if shown else None, self.key_of(record))

    def key_of(self, record: JsonObject | None) -> str | None:
        """What a record is called in arguments."""
        return record[self._k.record_slot.key] if record else None

    def office(self, record: JsonObject | None = None) -> Location | None:
        """The location to refer to: the record's, else the caller's own, else the only one."""
        locations = self.facts.locations
        if record and (label := record.get("location")):
            for location in locations:
                if location.label == label:
                    return location
        for location in locations:
            if location.client_id == self.facts.identity.client_id:
                return location
        return locations[0] if len(locations) == 1 else None

    @property
    def searches(self) -> str | None:
        """The tool that searches documents, where there is one."""
        return next((name for name, spec in self.tools.items() if spec.part == PART), None)

    def whole_question(self, part: str) -> str:
        """A part of the message; the whole, or with what was asked before, where it tells nothing by itself."""
        if elliptic := self._k.patterns["elliptic"].match(part):
            return " ".join((*self._said[1:2], part[elliptic.end() :]))
        if self._k.patterns["points_back"].search(part):
            return " ".join((*self._said[1:2], part))
        whole = part if words(part) or not self._said else self._said[0]
        return whole if words(whole) else " ".join((*self._said[1:2], whole))

    def quote(self, question: str, limit: int = 3, holds: float = HOLDS) -> str:
        """The sentences of documents that answer, each with the number of its passage; "" when nothing does."""
        query = self._k.as_written(question)[:QUERY_CHARS]
        if self.searches is None or not query:
            return ""
        return quoted(query, self.attempt(self.searches, {"query": query}).result, limit, holds)

    def render(self, name: str, **facts: Any) -> str:
        """An answer of the definition, with the sentences of documents that it rests on."""
        text = self._rendered(name, **facts)
        ground = self._k.rests_on.get(name)
        if ground is None or (ground.when is not None and not ground.when.search(text)):
            return text
        quote = self.quote(ground.query, ground.sentences)
        return f"{quote} {text}" if quote else text

    def _rendered(self, name: str, **facts: Any) -> str:
        facts.setdefault("office", self.office(facts.get("record")))
        common = {"now": self.facts.now, "locations": self.facts.locations, "identity": self.facts.identity}
        return self._answers[name].render(**common, **facts).strip()


def clock_of(text: str) -> str:
    """ "1:00 PM" or "13:00" as HH:MM."""

    return parse_time(text).isoformat("minutes")
