"""An agent as data: what it is told, which tools it has, how its gated actions are named and restated.

Loaded from a folder with `agent.yaml` (for every provider) and `planner.yaml` (what the offline planner knows).
Code elsewhere in this package holds no word of any domain; this is where such words stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined, Template
from pydantic import BaseModel, ConfigDict, Field

DEFINITIONS = Path(__file__).parent / "definitions"


class GatedAction(BaseModel):
    """How a gated tool is named and restated.

    `verbs` are the words by which a person names the action; `restate` and `question` are Jinja templates over the
    restatement facts; `claims` are regular expressions (case-insensitive) of sentences that say it was done.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    verbs: tuple[str, ...]
    restate: str
    question: str
    done: str
    claims: tuple[str, ...] = ()


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
    supersedes_pending: tuple[str, ...] = Field(
        default=(), description="a successful call of one of these means the person looks at something else"
    )
    limits: Limits = Limits()
    phrases: dict[str, str] = Field(description="what the runtime itself says; Jinja templates")


@dataclass(frozen=True)
class AgentDefinition:
    """A loaded agent."""

    file: AgentFile
    planner: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def templates(self) -> Environment:
        """Jinja environment for every template of the definition; undefined names are errors."""
        return Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701

    @cached_property
    def restatements(self) -> dict[str, Template]:
        """Gated tool -> compiled restatement."""
        return {tool: self.templates.from_string(g.restate) for tool, g in self.file.gated.items()}

    def phrase(self, key: str, **facts: Any) -> str:
        """A sentence that the runtime itself says."""
        return self._phrases[key].render(**facts).strip()

    @cached_property
    def _phrases(self) -> dict[str, Template]:
        return {key: self.templates.from_string(text) for key, text in self.file.phrases.items()}


def load_definition(name: str = "scheduling", root: Path = DEFINITIONS) -> AgentDefinition:
    """Read and validate one agent's folder; pydantic's `ValidationError` names every wrong key at once."""
    folder = root / name
    file = AgentFile.model_validate(yaml.safe_load((folder / "agent.yaml").read_text("utf-8")))
    planner = yaml.safe_load((folder / "planner.yaml").read_text("utf-8"))
    return AgentDefinition(file=file, planner=planner)
