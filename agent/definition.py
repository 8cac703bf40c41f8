"""An agent as data: what it is told, which tools it has, how its gated actions are named and restated.

Loaded from a folder with `agent.yaml` (for every provider) and `planner.yaml` (what the offline planner knows).
Code elsewhere in this package holds no word of any domain; this is where such words stand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined, Template
from pydantic import BaseModel, ConfigDict, Field, model_validator

from agent.dates import say_date, say_time

DEFINITIONS = Path(__file__).parent / "definitions"


class GatedAction(BaseModel):
    """How a gated tool is named and restated.

    `verbs` are the words by which a person names the action. `restate`, `question` and `done` are Jinja templates over
    the restatement facts (`question` also gets `again`: it was asked before). `claims` are regular expressions
    (case-insensitive) of sentences that say it was done. `completes` names an optional free-text argument that the
    question asks for; what a person adds to the yes fills it, if it was empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    verbs: tuple[str, ...]
    restate: str
    question: str
    done: str
    claims: tuple[str, ...] = ()
    completes: str | None = None


class Limits(BaseModel):
    """Budgets of one turn and of what waits between turns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_calls: int = 8
    tool_calls: int = 8
    deadline_s: float = 90.0
    pending_minutes: int = 30
    history_turns: int = 20


class AgentFile(BaseModel):
    """Schema of `agent.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    instructions: str
    action_groups: tuple[str, ...]
    specialists: dict[str, str] = Field(description="action group -> specialist")
    default_specialist: str
    gated: dict[str, GatedAction]
    write_claims: dict[str, tuple[str, ...]] = Field(description="ungated write tool -> claim patterns")
    claim_stems: tuple[str, ...] = Field(description="pieces of words; a sentence without any of them claims nothing")
    supersedes_pending: tuple[str, ...] = Field(
        default=(), description="a successful call of one of these means the person looks at something else"
    )
    dictated: dict[str, str] = Field(
        default_factory=dict,
        description="ungated write -> the argument that must be in the person's own words; if not, the call is gated",
    )
    grounded: dict[str, str] = Field(
        default_factory=dict, description="kind -> pattern of references never said unless a tool or the person did"
    )
    never_say: tuple[str, ...] = Field(default=(), description="patterns of sentences that a model may never say")
    limits: Limits = Limits()
    phrases: dict[str, str] = Field(description="what the runtime itself says; Jinja templates")

    @model_validator(mode="after")
    def _stems_cover_claims(self) -> AgentFile:
        patterns = [p for gated in self.gated.values() for p in gated.claims]
        patterns += [p for claims in self.write_claims.values() for p in claims]
        if bare := [pattern for pattern in patterns if not any(stem in pattern for stem in self.claim_stems)]:
            raise ValueError(f"no claim stem for {bare}")
        return self


@dataclass(frozen=True, eq=False)
class AgentDefinition:
    """A loaded agent."""

    file: AgentFile
    planner: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def templates(self) -> Environment:
        """Jinja environment for every template of the definition; undefined names are errors.

        Filters: `day` writes "2026-03-16", or an object with such a `date`, as "Monday, March 16"; `clock` writes
        "13:00" as "1:00 PM".
        """
        env = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701
        env.filters["day"] = lambda day: say_date(date.fromisoformat(day["date"] if isinstance(day, dict) else day))
        env.filters["clock"] = lambda iso: say_time(time.fromisoformat(iso))
        return env

    @cached_property
    def restatements(self) -> dict[str, Template]:
        """Gated tool -> compiled restatement."""
        return {tool: self.templates.from_string(g.restate) for tool, g in self.file.gated.items()}

    @cached_property
    def questions(self) -> dict[str, Template]:
        """Gated tool -> compiled question."""
        return {tool: self.templates.from_string(g.question) for tool, g in self.file.gated.items()}

    @cached_property
    def receipts(self) -> dict[str, Template]:
        """Gated tool -> what to say once it is done, if no model says it."""
        return {tool: self.templates.from_string(g.done) for tool, g in self.file.gated.items()}

    @cached_property
    def claims(self) -> tuple[tuple[str, re.Pattern[str]], ...]:
        """(tool, pattern) of every sentence that says a write was done."""
        gated = ((tool, p) for tool, g in self.file.gated.items() for p in g.claims)
        ungated = ((tool, p) for tool, patterns in self.file.write_claims.items() for p in patterns)
        return tuple((tool, re.compile(p, re.IGNORECASE)) for tool, p in (*gated, *ungated))

    def phrase(self, key: str, **facts: Any) -> str:
        """A sentence that the runtime itself says."""
        return self._phrases[key].render(**facts).strip()

    @cached_property
    def _phrases(self) -> dict[str, Template]:
        return {key: self.templates.from_string(text) for key, text in self.file.phrases.items()}


def load_agent_file(name: str, root: Path = DEFINITIONS) -> AgentFile:
    """Read and validate `agent.yaml` alone; pydantic's `ValidationError` names every wrong key at once."""
    return AgentFile.model_validate(yaml.safe_load((root / name / "agent.yaml").read_text("utf-8")))


def load_definition(name: str = "scheduling", root: Path = DEFINITIONS) -> AgentDefinition:
    """Read and validate one agent's folder."""
    planner = yaml.safe_load((root / name / "planner.yaml").read_text("utf-8"))
    return AgentDefinition(file=load_agent_file(name, root), planner=planner)
