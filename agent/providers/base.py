"""The seam between the turn and whatever answers: a model behind an API, or the offline planner.

A provider is a value: a wire that streams, a renderer from our transcript to what the wire sends, a capability record
and an error table. The loop that consumes the stream is written once, in `agent.graph`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

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


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One model call. `messages` end with the user's message or with the results of this turn's calls."""

    instructions: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    facts: TurnFacts
    deadline_s: float = 60.0


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
class Tokens:
    """Usage of this call."""

    input_tokens: int
    output_tokens: int
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """The provider's private state for its next call, and which specialist it spoke as (None: does not know)."""

    state: JsonObject | None = None
    specialist: str | None = None


Chunk = Text | Reasoning | Call | Tokens | Note


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
    """What a model can do; data here, never a test of its name elsewhere."""

    streams_tool_calls: bool = True
    parallel_tool_calls: bool = True
    reports_usage: bool = True
    speaks_any_language: bool = True
    max_context_tokens: int = 128_000


@dataclass(frozen=True, slots=True)
class Provider:
    """One model behind one wire."""

    name: Literal["offline", "openai", "local"] | str
    model: str
    wire: Wire
    render: Callable[[ModelRequest], Any]
    classify: Callable[[Exception], ModelError]
    raises: tuple[type[Exception], ...] = ()
    capabilities: Capabilities = field(default_factory=Capabilities)
