"""The seam between the turn and whatever answers: a model behind an API, or the offline planner.

A provider is a value: a wire that streams, a renderer from our transcript to what the wire sends, a capability record
and an error table. The loop that consumes the stream is written once, in `agent.graph`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from agent.confirmation import Verdict
from agent.errors import ModelError
from agent.transcript import JsonObject, Message, ToolCall
from tools.contract import Identity, Location, ToolSpec


@dataclass(frozen=True, slots=True)
class PendingFacts:
    """An open pending action, as the answering side may know it."""

    tool: str
    args: JsonObject
    summary: str
    restatement: JsonObject


@dataclass(frozen=True, slots=True)
class TurnFacts:
    """What code knows and the model is told, besides the transcript."""

    now: datetime
    identity: Identity
    locations: tuple[Location, ...]  # those this caller may see; empty for an anonymous one
    pending: tuple[PendingFacts, ...] = ()  # still open after the user's message was judged
    verdict: Verdict | None = None  # how code judged the user's message; None when nothing was pending
    correction: str | None = None  # why the previous attempt of this turn was withheld; set on a re-ask
    summary: str = ""  # of turns that are not among the messages any more; may quote whatever was said in them
    found: JsonObject | None = None  # what code looked up for this message in documents, as the tool would tell it


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One model call. `messages` end with the user's message or with the results of this turn's calls.

    `plain` asks for a history without calls and private state of earlier turns: the provider refused the full one.
    """

    instructions: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    facts: TurnFacts
    deadline_s: float = 60.0
    plain: bool = False
    turn_key: str = ""  # conversation and turn, in letters, digits and a dot: for what a provider keeps for a turn


@dataclass(frozen=True, slots=True)
class Text:
    """More text."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """More thinking; not part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """One whole tool call. `error` when its arguments could not be read as a JSON object (`call.args` is empty)."""

    call: ToolCall
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """Something that comes whole later has begun to arrive."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Usage of this call. `input_tokens` count all that was read, the cached ones too."""

    input_tokens: int
    output_tokens: int
    estimated: bool = False
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Cited:
    """The text so far rests on this passage of the provider's own knowledge."""

    document_id: str
    section: str
    start: int  # span in the text of this message, in characters
    end: int
    score: float = 0.0
    text: str = ""  # what stands in that span


@dataclass(frozen=True, slots=True)
class Searched:
    """The provider searched its own knowledge, and found so many passages."""

    query: str
    passages: int


@dataclass(frozen=True, slots=True)
class Note:
    """The provider's private state for its next call, and which specialist it spoke as (None: does not know).

    State is stored with the message and comes back, as `history.Step.state`, only to the provider of the same name. One
    that is good for a single model only says which (`{"model": …}`), since the model behind a name may change.
    """

    state: JsonObject | None = None
    specialist: str | None = None


Chunk = Text | Reasoning | Call | Begun | Tokens | Note | Cited | Searched


class Wire(Protocol):
    """Sends one rendered request and yields chunks as they arrive. Closing the iterator closes the connection."""

    def stream(self, payload: Any, *, deadline_s: float) -> AsyncIterator[Chunk]:
        """Raises whatever its library raises; `Provider.classify` translates."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do; data here, never a test of its name elsewhere. Each can be overridden in `models.yaml`."""

    tools: bool = True
    streams: bool = True
    streams_tool_calls: bool = True  # False: a request with tools is not streamed
    parallel_tool_calls: bool = True
    reports_usage: bool = True
    reasoning: bool = False  # thinks first; its thoughts go back to it where its wire has a place for them
    prompt_caching: bool = False
    guardrails: bool = False
    speaks_any_language: bool = True
    managed: bool = False  # an agent of its own: it calls what it was set up with, and does nothing else on request
    reads_prose: bool = True  # False: it works on the results themselves, so none is cut and nothing is summed up
    max_context_tokens: int = 128_000
    max_output_tokens: int = 4_096

    @property
    def answers_anything(self) -> bool:
        """Whether it can be asked something else than to answer the person."""
        return self.reads_prose and not self.managed


@dataclass(frozen=True, slots=True)
class Where:
    """The configuration keys by which an operator mends what a provider complains of."""

    key: str = "LLM_API_KEY"
    url: str = "LLM_API_URL"
    model: str = "LLM_MODEL"


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether a model can be used; if not, why and what to do. Neither names the key."""

    ok: bool
    cause: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Provider:
    """One model behind one wire."""

    name: str  # as configured; "offline" is the planner
    model: str
    wire: Wire
    render: Callable[[ModelRequest], Any]
    classify: Callable[[Exception], ModelError]
    raises: tuple[type[Exception], ...] = ()
    capabilities: Capabilities = field(default_factory=Capabilities)
    kind: str = ""  # openai, local, ollama, bedrock, anthropic, bedrock_agent, langchain; the planner has none
    probe: Callable[[], Awaitable[Probe]] | None = None  # is it there, does it take the key, does it know the model?
