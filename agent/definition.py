"""An agent as data: what it is told, which tools it has, how its gated actions are named and restated.

Loaded from a folder with `agent.yaml` (for every provider), `planner.yaml` (what the offline planner knows),
`examples.yaml` (how people say what they want), a file for each further language (`es.yaml`), and perhaps
`action_groups.yaml` (where groups run that do not simply run in this process, and tools of others).
Code elsewhere in this package holds no word of any domain; this is where such words stand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from agent.long_results import READ
from agent.wording import GatedWording, Translation, Wording, language_of
from tools.contract import ToolSpec
from tools.executors.config import ActionGroups, ToolConfig
from tools.toolbox import DuplicateTool

DEFINITIONS = Path(__file__).parent / "definitions"
# While summing up fails, so many turns more wait for it.
WAITING_TURNS = 8


class GatedAction(BaseModel):
    """How a gated tool is named and restated.

    `verbs` are the words by which a person names the action. `restate`, `question` and `done` are Jinja templates over
    the restatement facts (`question` also gets `again`: it was asked before). `claims` are regular expressions
    (case-insensitive) of sentences that say it was done. `completes` names an optional free-text argument that the
    question asks for; what a person adds to the yes fills it, if it was empty. `changes` are regular expressions of
    what, said with a yes, asks for another call than the one restated; see `agent.confirmation.PendingView`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    verbs: tuple[str, ...]
    restate: str
    question: str
    done: str
    claims: tuple[str, ...] = ()
    completes: str | None = None
    changes: tuple[str, ...] = ()

    @cached_property
    def change_patterns(self) -> tuple[re.Pattern[str], ...]:
        """`changes`, compiled."""
        return tuple(re.compile(pattern, re.IGNORECASE) for pattern in self.changes)


class Limits(BaseModel):
    """Budgets of one turn and of what waits between turns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_calls: int = 8
    tool_calls: int = 8
    deadline_s: float = 90.0
    pending_minutes: int = 30
    history_turns: int = Field(20, ge=1)
    result_chars: int = Field(16_000, ge=1_000, description="of a longer tool result, models see the beginning")
    faulty_steps: int = Field(3, ge=1, description="so often a model may make calls that no schema allows")


class Summary(BaseModel):
    """Older turns are summed up as soon as there are more than `after_turns`; the last `keep_turns` stay whole."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    after_turns: int = Field(ge=2, le=200)
    keep_turns: int = Field(ge=1)

    @model_validator(mode="after")
    def _leaves_something(self) -> Summary:
        if self.keep_turns >= self.after_turns:
            raise ValueError(f"keep_turns must be less than after_turns ({self.after_turns})")
        return self


class KnowledgePolicy(BaseModel):
    """How the assistant comes by what documents say.

    `tool`: the model searches when it wants to. `auto`: code searches for every message that may be a question, before
    the model is asked, and the model may search on. `off`: neither.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Literal["auto", "tool", "off"] = "tool"
    base: str = Field("default", min_length=1, description="name or id of the knowledge base")
    passages: int = Field(4, ge=1, le=10, description="found at most, unless the model asks for another number")
    min_score: float | None = Field(None, ge=0, le=1, description="passages that fit less are none; null: the base's")


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
    knowledge: KnowledgePolicy = KnowledgePolicy()
    summary: Summary | None = None
    phrases: dict[str, str] = Field(description="what the runtime itself says; Jinja templates")

    @model_validator(mode="after")
    def _stems_cover_claims(self) -> AgentFile:
        patterns = [p for gated in self.gated.values() for p in gated.claims]
        patterns += [p for claims in self.write_claims.values() for p in claims]
        if bare := [pattern for pattern in patterns if not any(stem in pattern for stem in self.claim_stems)]:
            raise ValueError(f"no claim stem for {bare}")
        return self

    @property
    def turns_loaded(self) -> int:
        """How many earlier turns a turn has to know: those that models are shown, or that wait to be summed up."""
        waiting = self.summary.after_turns + WAITING_TURNS if self.summary else 0
        return max(self.limits.history_turns, waiting)


# How a tool is restated that the definition has no words for: what its document says it does, and with what.
PLAIN = GatedAction(
    verbs=(),
    restate=(
        "{{ title }}{% for each in arguments %}{{ ': ' if loop.first else '; ' }}"
        "{{ each.name }} {{ each.value | plain }}{% endfor %}."
    ),
    question="Shall I do that?",
    done="Done: {{ title }}.",
)
_SAID_DONE = (
    r"\b(?:i|we)(?:'ve| have|'d)?(?: just| now| already| successfully)* {stem}(?:e?d|t)\b",
    r"\b(?:is|are|was|were|(?:has |have )?been|'s|'re)(?: now| all| just| already| successfully)* {stem}(?:e?d|t)\b",
)


@dataclass(frozen=True, eq=False)
class AgentDefinition:
    """A loaded agent."""

    file: AgentFile
    planner: Mapping[str, Any] = field(default_factory=dict)
    translations: Mapping[str, Translation] = field(default_factory=dict)
    groups: ActionGroups = field(default_factory=ActionGroups)  # where action groups run
    folder: Path = DEFINITIONS

    @property
    def action_groups(self) -> tuple[str, ...]:
        """All groups, those of others last."""
        return tuple(dict.fromkeys((*self.file.action_groups, *self.groups.root)))

    def specialist_of(self, group: str) -> str:
        """Which part of the assistant a group belongs to."""
        config = self.groups.root.get(group)
        named = getattr(config, "specialist", None) or self.file.specialists.get(group)
        return str(named or self.file.default_specialist)

    def with_wording(self, tools: Sequence[tuple[ToolSpec, ToolConfig]]) -> AgentDefinition:
        """This definition, with the words that its groups give to these tools, or plain ones.

        Raises `DuplicateTool` where one has the name of the runtime's own tool.
        """
        if clash := next((spec for spec, _ in tools if spec.name == READ.name), None):
            raise DuplicateTool(
                f"{READ.name}: the group {clash.group} has a tool of this name, which is the runtime's own; "
                "give the group a prefix, or rename the tool"
            )
        file = self.file
        gated, stems = dict(file.gated), set(file.claim_stems)
        for spec, config in tools:
            if spec.effect == "read" or spec.name in file.gated:
                continue
            gated[spec.name] = _gated(spec, config, claims=spec.name not in file.write_claims)
            stems |= {word.lower() for p in config.claims for word in re.findall(r"[^\W\d_]{4,}", p)}
            stems |= {verb.lower() for verb in gated[spec.name].verbs if gated[spec.name].claims}
        changed = {"gated": gated, "claim_stems": tuple(sorted(stems))}
        return AgentDefinition(
            file.model_copy(update=changed), self.planner, self.translations, self.groups, self.folder
        )

    @cached_property
    def wordings(self) -> dict[str, Wording]:
        """Language -> its sentences; what a translation lacks is said in English."""
        file = self.file
        gated = {t: GatedWording(restate=g.restate, question=g.question, done=g.done) for t, g in file.gated.items()}
        answers = self.planner.get("answers", {})
        wordings = {"en": Wording(gated, file.phrases, answers)}
        for language, own in self.translations.items():
            wordings[language] = Wording(
                {**gated, **own.gated}, {**file.phrases, **own.phrases}, {**answers, **own.answers}, own
            )
        return wordings

    def wording_for(self, texts: Sequence[str]) -> Wording:
        """The sentences for a person who wrote these messages, newest first."""
        return self.wordings[language_of(texts, self._markers)]

    @cached_property
    def _markers(self) -> dict[str, re.Pattern[str]]:
        return {name: re.compile(own.markers, re.IGNORECASE) for name, own in self.translations.items()}

    @cached_property
    def claim_stems(self) -> tuple[str, ...]:
        """Pieces of words; a sentence that holds none of them matches no claim. Of translations, their longer words."""
        foreign = (p for own in self.translations.values() for patterns in own.claims.values() for p in patterns)
        words = {word.lower() for pattern in foreign for word in re.findall(r"[^\W\d_]{5,}", pattern)}
        return tuple(sorted({*self.file.claim_stems, *words}))

    @cached_property
    def claims(self) -> tuple[tuple[str, re.Pattern[str]], ...]:
        """(tool, pattern) of every sentence that says a write was done, in any language; see `claim_stems`."""
        gated = ((tool, p) for tool, g in self.file.gated.items() for p in g.claims)
        ungated = ((tool, p) for tool, patterns in self.file.write_claims.items() for p in patterns)
        foreign = ((t, p) for own in self.translations.values() for t, patterns in own.claims.items() for p in patterns)
        return tuple((tool, re.compile(p, re.IGNORECASE)) for tool, p in (*gated, *ungated, *foreign))


def _gated(spec: ToolSpec, config: ToolConfig, *, claims: bool) -> GatedAction:
    """The words of one tool. `claims`: no others say yet which sentences claim that it was done."""
    words = re.findall(r"[A-Za-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", spec.name))
    verbs = config.verbs or tuple(word.lower() for word in words[:1])
    stems = [re.escape(verb) for verb in verbs if verb.isalpha()]
    return GatedAction(
        verbs=verbs,
        restate=config.restate or PLAIN.restate,
        question=config.question or PLAIN.question,
        done=config.done or PLAIN.done,
        claims=config.claims or tuple(p.replace("{stem}", stem) for stem in stems for p in _SAID_DONE if claims),
    )


def load_agent_file(name: str, root: Path = DEFINITIONS) -> AgentFile:
    """Read and validate `agent.yaml` alone; pydantic's `ValidationError` names every wrong key at once."""
    return AgentFile.model_validate(_read(root / name / "agent.yaml"))


def load_definition(name: str = "scheduling", root: Path = DEFINITIONS) -> AgentDefinition:
    """Read and validate one agent's folder."""
    planner = {**_read(root / name / "planner.yaml"), "examples": _read(root / name / "examples.yaml")}
    translations = {
        path.stem: Translation.model_validate(_read(path)) for path in sorted((root / name).glob("??.yaml"))
    }
    return AgentDefinition(load_agent_file(name, root), planner, translations, _groups(root / name), root / name)


def _groups(folder: Path) -> ActionGroups:
    path = folder / "action_groups.yaml"
    return ActionGroups.model_validate(_read(path) or {}) if path.exists() else ActionGroups()


def _read(path: Path) -> Any:
    # libyaml's loader is some ten times faster, where the wheel has it: a third of a second of every start.
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text("utf-8"), Loader=loader)  # noqa: S506 (both are safe)
