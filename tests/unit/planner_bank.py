"""The utterance bank of the planner: what people type, what they mean, and what the planner makes of it.

The planner reads each message in a real conversation: real tools on the simulator, the real turn, the real judge of
answers. What counts are the wishes of its first step, before anything is looked up.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from agent.definition import AgentDefinition, load_definition
from agent.graph import run_turn
from agent.planner import offline
from agent.planner.frame import Wish
from agent.planner.intents import Guess
from agent.planner.knowledge import Knowledge
from agent.planner.planner import Planner, _Step, view
from agent.planner.reading import Reader
from agent.ports import TurnInput, TurnWork
from agent.providers.base import ModelRequest, TurnFacts
from agent.routing.plan import only
from agent.transcript import UserMessage
from tests.doubles.world import NOW, World
from tests.integration.simulated_office import TOOLBOX, Office
from tools.contract import Identity, Location, ToolContext

BANK = Path(__file__).with_name("planner_utterances.yaml")
GROUPS = ("scheduling", "information", "notes", "chitchat")
HELD_BACK = 0.2
_SEED = 20260311
NOTHING = "none"


@dataclass(frozen=True, slots=True)
class Utterance:
    """One message and what is expected of it."""

    say: str
    want: tuple[str, ...]
    after: str | None = None  # the opening it follows
    then: tuple[str, ...] = ()
    fields: dict[str, str] = field(default_factory=dict)
    text: str | None = None
    day: str | None = None
    time: str | None = None
    never: tuple[str, ...] = ()
    es: bool = False
    held_back: bool = False
    part: str = "first"


@dataclass(frozen=True, slots=True)
class Reading:
    """What the planner made of an utterance."""

    wishes: tuple[Wish, ...]
    fields: dict[str, tuple[str, ...]]
    guesses: tuple[Guess, ...]  # of the first clause

    @property
    def intents(self) -> tuple[str, ...]:
        """The wished things in their order; `none` when nothing is wished."""
        return tuple(w.intent for w in self.wishes) or (NOTHING,)


@dataclass(frozen=True, slots=True)
class Opening:
    """The part of a conversation that a follow-up follows."""

    who: str
    said: tuple[str, ...]


class Bank:
    """All utterances; a fixed random fifth of them is held back from tuning."""

    def __init__(self, path: Path = BANK) -> None:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        self._as_good: dict[str, list[str]] = raw["as_good"]
        self.openings = {name: Opening(o["who"], tuple(o["said"])) for name, o in raw["openings"].items()}
        listed = [*self._first(raw["first"]), *self._follow_ups(raw["follow_up"])]
        draw = random.Random(_SEED)
        drawn = [replace(u, held_back=draw.random() < HELD_BACK) for u in listed]
        second = [replace(u, part="second") for u in self._first(raw["second"])]
        third = [replace(u, part="third", held_back=True) for u in self._first(raw["third"])]
        self.utterances = (*drawn, *second, *third)
        self.safety = tuple(self._read(e, e.get("want", ())) for e in raw["safety"])

    def _first(self, block: dict[str, list[Any]]) -> Iterator[Utterance]:
        for intent, entries in block.items():
            for entry in entries:
                body = {"say": entry} if isinstance(entry, str) else entry
                yield self._read(body, [intent, *body.get("or", ())])

    def _follow_ups(self, block: dict[str, list[Any]]) -> Iterator[Utterance]:
        for after, entries in block.items():
            for entry in entries:
                yield self._read(entry, entry["want"], after)

    def _read(self, body: dict[str, Any], want: str | list[str] | tuple[()], after: str | None = None) -> Utterance:
        named = [want] if isinstance(want, str) else list(want)
        extra = [good for intent in named for good in self._as_good.get(intent, ())]
        return Utterance(
            say=body["say"],
            want=tuple(dict.fromkeys([*named, *extra])),
            after=after,
            then=tuple(body.get("then", ())),
            fields=body.get("fields", {}),
            text=str(body["text"]) if "text" in body else None,
            day=str(body["day"]) if "day" in body else None,
            time=body.get("time"),
            never=tuple(body.get("never", ())),
            es=body.get("es", False),
        )


class Ear:
    """Reads utterances as the planner's first step of a turn does."""

    def __init__(self, definition: AgentDefinition | None = None) -> None:
        self.definition = definition or load_definition()
        self.knowledge = Knowledge(self.definition)
        self._reader = Reader(self.knowledge)
        self._planner = Planner(self.knowledge)

    async def read(self, utterance: Utterance, openings: dict[str, Opening]) -> Reading:
        """The wishes of an utterance, in its conversation."""
        if utterance.after is None:
            return self._reading(_alone(utterance.say))
        return self._reading(await self._request(openings[utterance.after], utterance.say))

    def _reading(self, request: ModelRequest) -> Reading:
        step = _Step(self.knowledge, self._reader, request, view(request))
        text = step._settle_verdict()
        wishes = step._wishes(text)
        clauses = self._reader.clauses(text, NOW.date()) if text.strip() else []
        said: dict[str, tuple[str, ...]] = {}
        for clause in clauses:
            for name, values in clause.said.fields.items():
                said[name] = said.get(name, ()) + values
        return Reading(tuple(wishes), said, clauses[0].guesses if clauses else ())

    async def _request(self, opening: Opening, say: str) -> ModelRequest:
        """What the planner is asked first when `say` follows the opening."""
        talk = Conversation(opening.who, self.definition)
        for text in opening.said:
            await talk.say(text)
        await talk.say(say)
        return talk.first_request


def _alone(text: str) -> ModelRequest:
    """A request with no history, of a customer with several locations."""
    identity = _OFFICE.identity
    facts = TurnFacts(now=NOW, identity=identity, locations=_OFFICE.locations)
    return ModelRequest("", (UserMessage(text),), TOOLBOX.specs(GROUPS, identity), facts)


@dataclass(frozen=True, slots=True)
class _Surroundings:
    identity: Identity
    locations: tuple[Location, ...]


def _surroundings() -> _Surroundings:
    ctx = Office().caller("biz").ctx
    return _Surroundings(ctx.identity, tuple(ctx.directory.locations.values()))


_OFFICE = _surroundings()


class _RealWorld(World):
    """A conversation whose tools are the real ones."""

    ctx: ToolContext

    def context(self) -> ToolContext:
        return self.ctx


class Conversation:
    """A persona talks to the planner, with real tools on a simulator of its own."""

    def __init__(self, who: str, definition: AgentDefinition) -> None:
        self._definition = definition
        self._world = _RealWorld(toolbox=TOOLBOX)  # type: ignore[arg-type]
        self._world.ctx = Office().caller(who).ctx
        self._asked: list[ModelRequest] = []
        planner = offline(definition)
        self._provider = replace(planner, render=self._note)

    def _note(self, request: ModelRequest) -> ModelRequest:
        self._asked.append(request)
        return request

    @property
    def first_request(self) -> ModelRequest:
        """The first one of the last turn."""
        return self._asked[0]

    async def say(self, text: str) -> None:
        """One turn, to its end."""
        self._asked.clear()
        given: TurnInput = self._world.turn(text)
        work = TurnWork()
        async for _ in run_turn(self._definition, only(self._provider), TOOLBOX, given, work, lambda _: "chitchat"):
            pass
        self._world.keep(given, work)


def faults(utterance: Utterance, reading: Reading) -> list[str]:
    """What is wrong with a reading; empty when it is right."""
    got = reading.intents
    found = []
    if utterance.want and got[0] not in utterance.want:
        found.append("intent")
    if utterance.never and set(utterance.never) & set(got):
        found.append("never")
    if utterance.want and len(set(got)) != 1 + len(utterance.then) and not _same_wish(got):
        found.append("number of wishes")
    elif any(intent not in got[1:] for intent in utterance.then):
        found.append("further wishes")
    if any(value not in reading.fields.get(name, ()) for name, value in utterance.fields.items()):
        found.append("fields")
    wish = reading.wishes[0] if reading.wishes else None
    spoken = " ".join(wish.values.values()) if wish else ""
    if utterance.text and utterance.text.lower() not in spoken.lower():
        found.append("text")
    if utterance.day and (wish is None or not _on_day(wish, utterance.day)):
        found.append("day")
    if utterance.time and (wish is None or not _at_time(wish, utterance.time)):
        found.append("time")
    return found


def _same_wish(got: tuple[str, ...]) -> bool:
    return len(set(got)) == 1


def _on_day(wish: Wish, day: str) -> bool:
    return day in wish.values.values() or any(w.start == day == w.end for w in wish.days)


def _at_time(wish: Wish, time: str) -> bool:
    return time in wish.values.values() or any(w.start == time for w in wish.times)
