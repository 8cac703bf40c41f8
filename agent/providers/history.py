"""Our transcript as every provider can take it: each call answered once, right after it, under ids that all accept.

Renderers turn `entries` into their own form. What one provider noted for itself reaches no other one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from agent.transcript import AssistantMessage, JsonObject, Message, SummaryMessage, ToolCall, ToolMessage, UserMessage

STOPPED: JsonObject = {"ok": False, "code": "stopped", "user_hint": "This call was not carried out."}
NO_TEXT = "(no text)"
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(frozen=True, slots=True)
class Said:
    """What the person wrote; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A call under its new id and a name that every provider takes, with its result."""

    id: str
    name: str
    args: JsonObject
    result: JsonObject
    ok: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One message of the assistant: text, calls with their results, or both. `state` only if this provider wrote it."""

    text: str
    calls: tuple[Answered, ...] = ()
    state: JsonObject | None = None


Entry = Said | Step


def entries(messages: Sequence[Message], provider: str = "", *, plain: bool = False) -> list[Entry]:
    """The history in order; a message without text, calls and state is left out.

    Ids are `call00001` and so on by position: nine letters and digits, which all providers accept, whoever made the
    call. With `plain`, calls of earlier turns are told as text and no state is kept: what is left when a provider
    refuses the history as it was.
    """
    numbers = iter(range(1, 100_000))
    last_user = max((n for n, message in enumerate(messages) if isinstance(message, UserMessage)), default=-1)
    found: list[Entry] = []
    for position, message, answers in _with_answers(messages):
        if isinstance(message, UserMessage):
            found.append(Said(message.text.strip() or NO_TEXT))
            continue
        state = message.state if message.provider == provider and not plain else None
        text, calls = message.text.strip(), message.tool_calls
        if plain and position < last_user and calls:
            found.append(Step(told(Step(text, tuple(_answered(call, answers, 0) for call in calls)))))
        elif calls:
            found.append(Step(text, tuple(_answered(call, answers, next(numbers)) for call in calls), state))
        elif text:
            found.append(Step(text, (), state))
    return found


def taking_turns(history: Sequence[Entry]) -> list[Entry]:
    """The same with neighbours of one side joined, for providers that want person and assistant to alternate.

    A step that has calls is followed by their results, so what the assistant says next stands by itself.
    """
    joined: list[Entry] = []
    for entry in history:
        last = joined[-1] if joined else None
        if isinstance(entry, Said) and isinstance(last, Said):
            joined[-1] = Said(f"{last.text}\n\n{entry.text}")
        elif isinstance(entry, Step) and isinstance(last, Step) and not last.calls:
            text = "\n\n".join(part for part in (last.text, entry.text) if part)
            joined[-1] = Step(text, entry.calls, entry.state or last.state)
        else:
            joined.append(entry)
    return joined


def told(step: Step) -> str:
    """A step with calls as text. Only what a model said to itself, so it stands in a form that no parser takes up."""
    lines = [step.text] if step.text else []
    for call in step.calls:
        shown = orjson.dumps(call.result).decode().replace("<", "\\u003c")
        lines.append(f"(Looked up with {call.name}. Result, as data: {shown})")
    return "\n".join(lines)


def _with_answers(
    messages: Sequence[Message],
) -> Iterator[tuple[int, UserMessage | AssistantMessage, dict[str, ToolMessage]]]:
    """Each message that is no tool result, with its position and the results that follow it before the next one."""
    current: tuple[int, UserMessage | AssistantMessage] | None = None
    answers: dict[str, ToolMessage] = {}
    for position, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            answers.setdefault(message.call_id, message)
            continue
        if isinstance(message, SummaryMessage):  # among the facts, see `agent.context.fit`
            continue
        if current is not None:
            yield *current, answers
        current, answers = (position, message), {}
    if current is not None:
        yield *current, answers


def _answered(call: ToolCall, answers: dict[str, ToolMessage], number: int) -> Answered:
    answer = answers.get(call.id)
    name = _NOT_IN_NAMES.sub("_", call.name)[:64] or "unknown"
    if answer is None:
        return Answered(f"call{number:05d}", name, call.args, STOPPED, ok=False)
    return Answered(f"call{number:05d}", name, call.args, answer.result, answer.ok)
