"""The planner's part of a definition, read once: vocabulary, intents, slots, tools, records and answers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any

from jinja2 import ChainableUndefined, Template

from agent.dates import find_dates, find_times
from agent.definition import AgentDefinition
from agent.planner.intents import MASK, Classifier, Intent, read_intents
from agent.planner.text import WORD, Lexicon, unaccent
from agent.transcript import JsonObject

_NUMBER = re.compile(r"\b\d+(?:st|nd|rd|th)?\b")
_ANY_DAY = date(2026, 1, 1)  # where a day is said does not depend on today


@dataclass(frozen=True, slots=True)
class Goal:
    """How a tool's parameters are filled.

    `needs` maps parameters to slots, in the order in which they must be known; `wants` are optional ones, filled only
    from what was said. `prefer` are field values that a fitting record has; `fixed` are constant arguments. `unfit`
    names, per field and value of a record, the answer that ends the attempt before any call.
    """

    tool: str
    needs: Mapping[str, str]
    wants: Mapping[str, str]
    prefer: JsonObject
    fixed: JsonObject
    unfit: Mapping[str, Mapping[str, str]]
    checks: tuple[Mapping[str, str], ...]  # reads whose named field must be true, else `answer` ends the attempt
    own_choice: bool  # ask rather than guess from eligibility when several records match what was said
    is_batch: bool = False  # it is about many records at once


@dataclass(frozen=True, slots=True)
class Slot:
    """A kind of value and where its options come from."""

    name: str
    kind: str  # record | day | time | text; of batches: batch | span | first_day | choice | word | words | flag | place
    offered_by: str = ""
    path: str = ""
    key: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    window: tuple[str, str] | None = None
    ask: str = ""
    none: str = ""
    stands_at: str = ""  # where a record holds its present value, as a dotted path
    gone: str = ""
    pattern: re.Pattern[str] | None = None  # how a value looks; a choice is its group `choice`, a place its groups
    values: Mapping[str, re.Pattern[str]] = field(default_factory=dict)  # of a word: value -> the words that mean it
    keys: tuple[str, ...] = ()  # of a place: what its parts are called
    of: str = ""  # the slot whose value it is read from
    good: Mapping[str, str] = field(default_factory=dict)  # of a batch: check -> path of those it found good


@dataclass(frozen=True, slots=True)
class Field:
    """A property by which people tell records apart. `values` maps a value to the patterns that mean it."""

    name: str
    values: Mapping[str, re.Pattern[str]]
    soft: bool  # may be ignored when nothing matches it


@dataclass(frozen=True, slots=True)
class RestsOn:
    """The documents that an answer rests on: what to look for, and how many of their sentences are quoted with it."""

    query: str
    sentences: int
    when: re.Pattern[str] | None  # only an answer in which this is found

    @staticmethod
    def read(raw: Mapping[str, Any]) -> RestsOn:
        """An entry of `rests_on`."""
        when = raw.get("when")
        return RestsOn(raw["query"], raw.get("sentences", 1), re.compile(when, re.IGNORECASE) if when else None)


class Knowledge:
    """Everything the planner knows of its domain, as far as one audience may wish for it."""

    def __init__(self, definition: AgentDefinition, audience: str = "") -> None:
        self.definition = definition
        self.block = definition.planner
        file = definition.file
        self.audiences: tuple[str, ...] = tuple(self.block.get("audiences", ()))
        self.intents: dict[str, Intent] = read_intents(
            _heard_by(audience, self.block["intents"]),
            self.block.get("examples", {}),
            {*file.gated, *file.write_claims},
            self.block.get("pieces", {}),
        )
        self.lexicon = Lexicon(self._aliases(), self._vocabulary(), self._ordinary())
        self.slots = {name: _slot(name, raw) for name, raw in self.block["slots"].items()}
        self.record_slot = next(s for s in self.slots.values() if s.kind == "record")
        self.day_slot = next(s for s in self.slots.values() if s.kind == "day")
        self.time_slot = next(s for s in self.slots.values() if s.kind == "time")
        self.when = (self.day_slot.name, self.time_slot.name)
        self.batches = {s.name for s in self.slots.values() if s.kind == "batch"}
        self.goals = {tool: _goal(tool, raw, self.batches) for tool, raw in self.block["goals"].items()}
        records = self.block["records"]
        self.finished: JsonObject = records["finished"]
        self.references = re.compile(records["references"], re.IGNORECASE)
        self.fields = tuple(
            Field(f["name"], {v: re.compile(p) for v, p in f["values"].items()}, f.get("soft", False))
            for f in records["fields"]
        )
        self.text_fields: tuple[str, ...] = tuple(records["text_fields"])
        self.dull_words = frozenset(records["dull_words"])
        patterns = self.block["patterns"]
        self.patterns = {name: re.compile(p, re.IGNORECASE) for name, p in patterns.items()}
        self.rests_on = {name: RestsOn.read(raw) for name, raw in self.block.get("rests_on", {}).items()}
        self.thresholds: Mapping[str, float] = self.block["thresholds"]
        self.classifier = Classifier(self.intents, self.lexicon, self.thresholds, self.masked)

    @property
    def batch_slot(self) -> Slot:
        """The slot of ids, where wishes are about many records."""
        return next(slot for slot in self.slots.values() if slot.kind == "batch")

    @cached_property
    def works_on_batches(self) -> bool:
        """Whether this audience wishes for things to do with many records at once."""
        return any(i.goal is not None and self.goals[i.goal].is_batch for i in self.intents.values())

    @cached_property
    def answers(self) -> dict[int, dict[str, Template]]:
        """Compiled answers by wording. Results of tools leave out what they do not know, so a missing name is empty."""
        return {id(w): w.answers(ChainableUndefined) for w in self.definition.wordings.values()}

    def as_written(self, text: str) -> str:
        """A question with its typos repaired, spelled as documents spell."""
        written: Mapping[str, str] = self.block.get("written", {})
        return " ".join(written.get(word, word) for word in self.lexicon.mend(text).split())

    def masked(self, mended: str) -> str:
        """Mended text with what is no intent replaced by its kind: records, references, days, times, numbers."""
        text = self.references.sub(f" {MASK}reference ", mended)
        for span in sorted(_spans(text), reverse=True):
            text = f"{text[: span[0]]} {MASK}when {text[span[1] :]}"
        for f in self.fields:
            for pattern in f.values.values():
                text = pattern.sub(f" {MASK}{f.name} ", text)
        return _NUMBER.sub(f" {MASK}number ", text)

    def _aliases(self) -> dict[str, str]:
        aliases: dict[str, str] = {}
        for translation in self.definition.translations.values():
            aliases.update(translation.aliases)
        return {**aliases, **self.block["language"]["aliases"]}

    def _vocabulary(self) -> set[str]:
        words: set[str] = set()
        for intent in self.intents.values():
            for example in intent.examples:
                words.update(WORD.findall(unaccent(example.lower())))
        words.update(self.block["language"]["vocabulary"].split())
        return words

    def _ordinary(self) -> set[str]:
        return set(self.block["language"]["ordinary"].split())


def _spans(text: str) -> list[tuple[int, int]]:
    """Where days and times are said; they do not overlap."""
    spans = [d.span for d in find_dates(text, _ANY_DAY)]
    for t in find_times(text):
        if t.preference == "none" and not any(t.span[0] < end and start < t.span[1] for start, end in spans):
            spans.append(t.span)
    return spans


def _heard_by(audience: str, intents: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The intents of an audience; those that name none are for whoever is no special one."""
    return {
        name: {key: value for key, value in raw.items() if key != "audience"}
        for name, raw in intents.items()
        if audience in raw.get("audience", ("",))
    }


def _slot(name: str, raw: Mapping[str, Any]) -> Slot:
    window, pattern = raw.get("window"), raw.get("pattern")
    read = {
        "args": raw.get("args", {}),
        "window": tuple(window) if window else None,
        "pattern": re.compile(pattern, re.IGNORECASE) if pattern else None,
        "values": {value: re.compile(words) for value, words in raw.get("values", {}).items()},
        "keys": tuple(raw.get("keys", ())),
    }
    return Slot(name=name, **{**raw, **read})


def _goal(tool: str, raw: Mapping[str, Any], batches: Collection[str]) -> Goal:
    return Goal(
        tool=tool,
        needs=raw.get("needs", {}),
        wants=raw.get("wants", {}),
        prefer=raw.get("prefer", {}),
        fixed=raw.get("fixed", {}),
        unfit=raw.get("unfit", {}),
        checks=tuple(raw.get("checks", ())),
        own_choice=raw.get("own_choice", False),
        is_batch=any(slot in batches for slot in raw.get("needs", {}).values()),
    )
