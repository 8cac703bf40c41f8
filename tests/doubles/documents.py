"""A small library: documents by section, searched by words alone; and a toolbox that has the tool over it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import yaml

from agent.extracts import words
from agent.transcript import JsonObject
from tests.doubles.world import SPECS, FakeToolbox
from tools.contract import Identity, Prepared, Readable, ToolContext, ToolError, ToolResult, ToolSpec
from tools.in_process import InProcess
from tools.knowledge import ACTIONS

CONTENT = Path(__file__).parents[2] / "knowledge_base" / "content"


@dataclass(frozen=True)
class Section:
    """A piece of a document."""

    document_id: str
    title: str
    section: str
    text: str
    attributes: JsonObject = field(default_factory=dict)
    uri: str = ""


@cache
def shipped() -> tuple[Section, ...]:
    """The documents that the product ships with, cut at their headings."""
    found: list[Section] = []
    for path in sorted(CONTENT.glob("*.md")):
        _, front, body = path.read_text("utf-8").split("---\n", 2)
        facts = yaml.safe_load(front)
        for part in body.split("\n## ")[1:]:
            heading, _, text = part.partition("\n")
            attributes = {key: facts[key] for key in ("audience", "locations")}
            found.append(Section(facts["doc_id"], facts["title"], heading, text.strip(), attributes))
    return tuple(found)


@dataclass
class Library:
    """A `KnowledgeSearch`. `queries` are the questions it was asked; `fails` is raised in place of an answer."""

    sections: Sequence[Section]
    least: float = 0.12
    queries: list[str] = field(default_factory=list)
    fails: ToolError | None = None

    async def search(self, query: str, most: int | None, readable: Readable | None) -> JsonObject:
        """By the share of the question's words that a section holds, rare words first."""
        self.queries.append(query)
        if self.fails is not None:
            raise self.fails
        held = [set(words(f"{each.title} {each.section} {each.text}")) for each in self.sections]
        seen = Counter(word for own in held for word in own)
        asked = {word: math.log(1 + len(held) / seen.get(word, 1)) for word in set(words(query))}
        whole = sum(asked.values()) or 1.0
        rated = [
            (sum(asked[word] for word in asked.keys() & own) / whole, each)
            for own, each in zip(held, self.sections, strict=True)
            if readable is None or readable(each.attributes)
        ]
        best = sorted((pair for pair in rated if pair[0] >= self.least), key=lambda pair: -pair[0])[: most or 4]
        return {
            "knowledge_base": "default",
            "passages": [_passage(each, score) for score, each in best],
            "reason": "ok" if best else "no_match",
            "explanation": "" if best else "No passage fits that question.",
            "milliseconds": 0.1,
        }


def _passage(section: Section, score: float) -> JsonObject:
    return {
        "document_id": section.document_id,
        "title": section.title,
        "section": section.section,
        "page": None,
        "start": 10,
        "end": 10 + len(section.text),
        "version": 1,
        "score": score,
        "text": section.text,
        "uri": section.uri,
        "attributes": section.attributes,
    }


@dataclass
class KnowingToolbox(FakeToolbox):
    """The tools of one customer, and the search in a library."""

    library: Library = field(default_factory=lambda: Library(shipped()))

    def __post_init__(self) -> None:
        self._knowledge = InProcess(ACTIONS)
        self._names = {each.name for each in ACTIONS}

    def specs(self, groups: Sequence[str], identity: Identity) -> tuple[ToolSpec, ...]:
        """All of them."""
        return (*SPECS, *(each.spec for each in ACTIONS))

    async def prepare(self, name: str, args: JsonObject, ctx: ToolContext) -> Prepared:
        """As the port says."""
        if name in self._names:
            return await self._knowledge.prepare(name, args, self._with_library(ctx))
        return await super().prepare(name, args, ctx)

    async def execute(self, prepared: Prepared, ctx: ToolContext) -> ToolResult:
        """As the port says."""
        if prepared.spec.name in self._names:
            return await self._knowledge.execute(prepared, self._with_library(ctx))
        return await super().execute(prepared, ctx)

    def _with_library(self, ctx: ToolContext) -> ToolContext:
        return replace(ctx, knowledge=self.library)
