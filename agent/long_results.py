"""Tool results too long to be shown whole: a model sees the beginning, and a handle by which it can read on.

The transcript keeps every result as it is. A handle is a hash of the result and stored nowhere; what it opens is looked
for in the messages of the conversation at hand, so it leads to nothing that this conversation does not hold already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

import orjson

from agent.by_object import ByObject
from agent.providers.prompt import result_text
from agent.transcript import JsonObject, Message, ToolMessage
from tools.contract import InvalidArguments, ToolError, ToolResult, ToolSpec

# What a cut result says besides its beginning, and the marks around data, in characters.
_AROUND = 300
_MARKS = len(result_text({})) - 2
_ESCAPE = 5  # "<" stands in data as six characters

READ = ToolSpec(
    name="read_tool_result",
    description="Read on in a tool result of which only the beginning was shown.",
    parameters={
        "type": "object",
        "properties": {
            "handle": {"type": "string", "description": "The `handle` of the result."},
            "start": {"type": "integer", "description": "Where to read on: its `next_start`."},
        },
        "required": ["handle", "start"],
    },
    effect="read",
    group="",
)


class UnknownHandle(ToolError):
    """No result of this conversation has that handle."""

    code = "unknown_handle"


def cut(message: ToolMessage, limit: int, *, readable: bool) -> ToolMessage:
    """The message with a result of at most `limit` characters of JSON; itself where it is no longer than that.

    With `readable` it names the handle. The same message gives the same object again, so that its text is made once.
    """
    if len(result_text(message.result)) <= limit + _MARKS:
        return message
    return _CUTS.of(message, limit, readable)


def read_on(messages: Iterable[Message], args: JsonObject, limit: int) -> ToolResult:
    """More of the result that `args` name, in a form of at most `limit` characters.

    Raises:
        InvalidArguments: `args` do not fit the schema, or there is nothing from `start` on.
        UnknownHandle: no such result among the messages.
    """
    handle, start = args.get("handle"), args.get("start")
    if not isinstance(handle, str):
        raise _faulty("handle", "is missing; give the `handle` of the result, a text")
    if isinstance(start, str) and start.isdecimal() and len(start) <= 9:
        start = int(start)
    if not isinstance(start, int) or isinstance(start, bool) or start < 0:
        raise _faulty("start", "give the `next_start` of what was shown, a whole number")
    for message in messages:
        if isinstance(message, ToolMessage) and message.name != READ.name and handle_of(message.result) == handle:
            whole = _json(message.result)
            if start >= len(whole):
                raise _faulty("start", f"must be less than {len(whole)}, the length of the result")
            return ToolResult("ok", _part(handle, start, whole, limit))
    raise UnknownHandle("There is no such result in this conversation. Look it up again.")


def handle_of(result: JsonObject) -> str:
    """Names a result by what it holds."""
    return f"result-{hashlib.sha256(_json(result).encode()).hexdigest()[:16]}"


def _faulty(field: str, message: str) -> InvalidArguments:
    return InvalidArguments("The arguments cannot be used.", errors=[{"field": field, "message": message}])


def _part(handle: str, start: int, whole: str, limit: int) -> JsonObject:
    text = _prefix(whole[start : start + limit], limit - _AROUND)
    end = start + len(text)
    follows = {"next_start": end} if end < len(whole) else {}
    return {"ok": True, "handle": handle, "whole_chars": len(whole), "start": start, **follows, "text": text}


def _shortened(message: ToolMessage, limit: int, readable: bool) -> ToolMessage:
    result = message.result
    if message.name == READ.name and isinstance(result.get("text"), str) and isinstance(result.get("start"), int):
        text = _prefix(result["text"], limit - _AROUND)
        return replace(message, result={**result, "next_start": result["start"] + len(text), "text": text})
    whole = _json(result)
    beginning = _prefix(whole[:limit], limit - _AROUND)
    facts: JsonObject = {"note": "Only the beginning of a long result.", "whole_chars": len(whole)}
    if readable:
        facts["note"] += f" {READ.name} gives the rest."
        facts |= {"handle": handle_of(result), "next_start": len(beginning)}
    return replace(message, result={**facts, "beginning": beginning})


def _prefix(text: str, room: int) -> str:
    """As much of a text as has at most `room` characters when it stands in JSON, or nearly so much."""
    text = text[: max(room, 1)]
    while len(text) > 1 and (surplus := len(_json(text)) + _ESCAPE * text.count("<") - room) > 0:
        text = text[: len(text) - max(surplus // (_ESCAPE + 1), 1)]
    return text


def _json(node: object) -> str:
    return orjson.dumps(node).decode()


_CUTS: ByObject[ToolMessage, ToolMessage] = ByObject(
    _shortened, kept=512, weigh=lambda message: len(result_text(message.result)), most=8_000_000
)
