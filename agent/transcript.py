"""The conversation in our own, provider-neutral form.

Three kinds of message, and the summary that stands for old ones. A turn appends to the transcript and never rewrites
it. Providers render it to their own history; what they send back is stored in this form only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as the model wrote it. `by_runtime` marks the ones that code itself made (a confirmed pending action)."""

    id: str
    name: str
    args: JsonObject
    by_runtime: bool = False


@dataclass(frozen=True, slots=True)
class UserMessage:
    """What the person wrote, or the label of the button they pressed."""

    text: str
    role: Literal["user"] = "user"


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """One message of the assistant: text, calls, or both.

    `state` is the provider's private note to its own next call (a planner's dialogue frame, a reasoning signature):
    stored, never shown, ignored by every other provider. `citations` are what the text rests on: the fields of the
    `Citation` events, for people; no model is shown them. Their spans count the text of the whole turn: that of its
    messages, joined by blank lines.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    provider: str = ""
    state: JsonObject | None = None
    citations: tuple[JsonObject, ...] = ()
    role: Literal["assistant"] = "assistant"


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """The result of one call, exactly as the model is shown it. `args` are the effective arguments."""

    call_id: str
    name: str
    result: JsonObject
    args: JsonObject = field(default_factory=dict)
    ok: bool = True
    role: Literal["tool"] = "tool"


@dataclass(frozen=True, slots=True)
class SummaryMessage:
    """What was said before the `keeps` turns that precede the turn in which this stands, summed up by a model.

    Nobody said it: models read it in place of those turns, as data; people and guards never do.
    """

    text: str
    keeps: int
    role: Literal["summary"] = "summary"


Message = UserMessage | AssistantMessage | ToolMessage | SummaryMessage


def to_json(message: Message) -> JsonObject:
    """The stored form of a message: `role` plus its fields, empty ones left out."""
    match message:
        case UserMessage(text=text):
            return {"role": "user", "text": text}
        case AssistantMessage():
            body: JsonObject = {"role": "assistant", "text": message.text}
            if message.tool_calls:
                body["tool_calls"] = [
                    {"id": c.id, "name": c.name, "args": c.args, **({"by_runtime": True} if c.by_runtime else {})}
                    for c in message.tool_calls
                ]
            if message.provider:
                body["provider"] = message.provider
            if message.state is not None:
                body["state"] = message.state
            if message.citations:
                body["citations"] = list(message.citations)
            return body
        case ToolMessage():
            return {
                "role": "tool",
                "call_id": message.call_id,
                "name": message.name,
                "result": message.result,
                "args": message.args,
                "ok": message.ok,
            }
        case SummaryMessage(text=text, keeps=keeps):
            return {"role": "summary", "text": text, "keeps": keeps}


def from_json(body: JsonObject) -> Message:
    """Inverse of `to_json`; `ValueError` for an unknown role."""
    match body.get("role"):
        case "user":
            return UserMessage(text=body["text"])
        case "assistant":
            return AssistantMessage(
                text=body.get("text", ""),
                tool_calls=tuple(ToolCall(**call) for call in body.get("tool_calls", ())),
                provider=body.get("provider", ""),
                state=body.get("state"),
                citations=tuple(body.get("citations", ())),
            )
        case "tool":
            return ToolMessage(
                call_id=body["call_id"],
                name=body["name"],
                result=body["result"],
                args=body.get("args", {}),
                ok=body.get("ok", True),
            )
        case "summary":
            return SummaryMessage(text=body["text"], keeps=body["keeps"])
        case role:
            raise ValueError(f"unknown message role {role!r}")
