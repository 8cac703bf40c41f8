"""Defects of real servers, by name. Which wires have them, and what they do to a reply before a wire renders it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.doubles.model_service.script import Call, Reply


class Quirk(StrEnum):
    """One defect. The comment names where it was reported."""

    NAME_IN_EACH_PIECE = "name_in_each_piece"
    NAME_DOUBLED = "name_doubled"
    NAME_APART_FROM_ARGUMENTS = "name_apart_from_arguments"
    NAME_WITH_TOKENS = "name_with_tokens"
    INDEX_ALL_ZERO = "index_all_zero"
    INDEX_MISSING = "index_missing"
    ID_MISSING = "id_missing"
    ID_REPEATED = "id_repeated"
    ID_TOO_LONG = "id_too_long"
    ID_ODD = "id_odd"
    ID_DOTTED = "id_dotted"
    ID_IN_EACH_PIECE = "id_in_each_piece"
    ARGUMENTS_AS_OBJECT = "arguments_as_object"
    ARGUMENTS_SPLIT_IN_ESCAPE = "arguments_split_in_escape"
    ARGUMENTS_CUT_OFF = "arguments_cut_off"
    ARGUMENTS_EMPTY = "arguments_empty"
    CALL_AS_TOOL_CALL_TAG = "call_as_tool_call_tag"
    CALL_AS_FUNCTION_CALLS = "call_as_function_calls"
    CALL_AS_PYTHONIC = "call_as_pythonic"
    CALL_AS_JSON_FENCE = "call_as_json_fence"
    CALL_AS_JSON = "call_as_json"
    STOP_WITH_CALLS = "stop_with_calls"
    EMPTY_CHOICES = "empty_choices"
    NO_USAGE = "no_usage"
    USAGE_IN_EVERY_CHUNK = "usage_in_every_chunk"
    NO_DONE = "no_done"
    CRLF = "crlf"
    COMMENT_LINES = "comment_lines"
    ROLE_ONLY_FIRST = "role_only_first"
    NULL_CONTENT = "null_content"
    REASONING_FIELD = "reasoning_field"
    THINK_TAGS = "think_tags"
    IDS_GIVEN = "ids_given"
    CALLS_APART = "calls_apart"
    TEXT_AFTER_CALLS = "text_after_calls"
    TWO_TEXT_BLOCKS = "two_text_blocks"
    UNKNOWN_EVENTS = "unknown_events"


Quirks = Collection[str]

_CHAT = ("openai",)
_TEXT = ("openai", "ollama", "bedrock", "anthropic")
_SSE = ("openai", "anthropic")
_BLOCKS = ("bedrock", "anthropic")
WIRES_OF: dict[Quirk, Sequence[str]] = {
    Quirk.NAME_IN_EACH_PIECE: _CHAT,
    Quirk.NAME_DOUBLED: _CHAT,
    Quirk.NAME_APART_FROM_ARGUMENTS: _CHAT,
    Quirk.NAME_WITH_TOKENS: ("openai", "ollama"),
    Quirk.INDEX_ALL_ZERO: _CHAT,
    Quirk.INDEX_MISSING: _CHAT,
    Quirk.ID_MISSING: _CHAT,
    Quirk.ID_REPEATED: ("openai", "bedrock", "anthropic"),
    Quirk.ID_TOO_LONG: _CHAT,
    Quirk.ID_ODD: _CHAT,
    Quirk.ID_DOTTED: _CHAT,
    Quirk.ID_IN_EACH_PIECE: _CHAT,
    Quirk.ARGUMENTS_AS_OBJECT: _CHAT,
    Quirk.ARGUMENTS_SPLIT_IN_ESCAPE: ("openai", "bedrock", "anthropic"),
    Quirk.ARGUMENTS_CUT_OFF: ("openai", "bedrock", "anthropic"),
    Quirk.ARGUMENTS_EMPTY: ("openai", "bedrock", "anthropic"),
    Quirk.CALL_AS_TOOL_CALL_TAG: _TEXT,
    Quirk.CALL_AS_FUNCTION_CALLS: _TEXT,
    Quirk.CALL_AS_PYTHONIC: _TEXT,
    Quirk.CALL_AS_JSON_FENCE: _TEXT,
    Quirk.CALL_AS_JSON: _TEXT,
    Quirk.STOP_WITH_CALLS: ("openai", "bedrock", "anthropic"),
    Quirk.EMPTY_CHOICES: _CHAT,
    Quirk.NO_USAGE: _TEXT,
    Quirk.USAGE_IN_EVERY_CHUNK: _CHAT,
    Quirk.NO_DONE: _CHAT,
    Quirk.CRLF: ("openai", "ollama", "anthropic"),
    Quirk.COMMENT_LINES: _SSE,
    Quirk.ROLE_ONLY_FIRST: _CHAT,
    Quirk.NULL_CONTENT: _CHAT,
    Quirk.REASONING_FIELD: _CHAT,
    Quirk.THINK_TAGS: _TEXT,
    Quirk.IDS_GIVEN: ("ollama",),
    Quirk.CALLS_APART: ("ollama",),
    Quirk.TEXT_AFTER_CALLS: _BLOCKS,
    Quirk.TWO_TEXT_BLOCKS: _BLOCKS,
    Quirk.UNKNOWN_EVENTS: ("bedrock", "anthropic", "bedrock-agent"),
}
_AS_TEXT = (
    Quirk.CALL_AS_TOOL_CALL_TAG,
    Quirk.CALL_AS_FUNCTION_CALLS,
    Quirk.CALL_AS_PYTHONIC,
    Quirk.CALL_AS_JSON_FENCE,
    Quirk.CALL_AS_JSON,
)
_PREFIXES = ("name_", "index_", "id_", "ids_", "call_", "calls_", "arguments_")
_NEED_CALLS = frozenset(quirk for quirk in Quirk if quirk.startswith(_PREFIXES)) | {
    Quirk.STOP_WITH_CALLS,
    Quirk.TEXT_AFTER_CALLS,
}
_NEED_TEXT = frozenset({Quirk.TWO_TEXT_BLOCKS, Quirk.TEXT_AFTER_CALLS})
_NEED_REASONING = frozenset({Quirk.THINK_TAGS, Quirk.REASONING_FIELD})


def refuse_senseless(quirks: Quirks, calls: Sequence[Call], has_text: bool, has_reasoning: bool) -> str | None:
    """Why these quirks cannot show in such a reply."""
    for names, there, what in (
        (_NEED_CALLS, bool(calls), "calls"),
        (_NEED_TEXT, has_text, "text"),
        (_NEED_REASONING, has_reasoning, "reasoning"),
    ):
        if not there and (useless := sorted(names.intersection(quirks))):
            return f"quirk {useless[0]!r} needs a reply with {what}"
    if len([name for name in _AS_TEXT if name in quirks]) > 1:
        return "calls can be written as text in one way only"
    if Quirk.ARGUMENTS_SPLIT_IN_ESCAPE in quirks and not any("\\u" in call.arguments for call in calls):
        return "quirk 'arguments_split_in_escape' needs an argument that is not ASCII"
    possible = set(_TEXT) | {"bedrock-agent"}
    for quirk in sorted(quirks):
        possible &= set(WIRES_OF[Quirk(quirk)])
    return None if possible else f"no wire has all of these quirks: {', '.join(sorted(quirks))}"


def refuse_on(wire: str, quirks: Quirks) -> str | None:
    """Why these quirks cannot show on that wire."""
    for quirk in sorted(quirks):
        if wire not in WIRES_OF[Quirk(quirk)]:
            return f"quirk {str(quirk)!r} makes no sense on the wire {wire!r}; it is one of: " + ", ".join(
                WIRES_OF[Quirk(quirk)]
            )
    return None


def rewritten(reply: Reply) -> Reply:
    """The reply with those of its quirks carried out that are the same on every wire."""
    quirks = reply.quirks
    for quirk in _AS_TEXT:
        if quirk in quirks:
            said = (reply.text,) if isinstance(reply.text, str) else reply.text
            reply = replace(
                reply,
                text=(*filter(None, said), *_in_sevens(as_text(quirk, reply.calls))),
                calls=(),
                stop=reply.stop or "end",
                quirks=frozenset(quirks) - _NEED_CALLS,
            )
    if Quirk.THINK_TAGS in quirks:
        said = tuple(reply.text_pieces)
        thought = ("<think>\n", *reply.reasoning_pieces, "\n</think>\n\n")
        reply = replace(reply, text=thought + said, reasoning="", quirks=frozenset(reply.quirks) - {Quirk.THINK_TAGS})
    if Quirk.NO_USAGE in quirks:
        reply = replace(reply, usage=None)
    if Quirk.STOP_WITH_CALLS in quirks:
        reply = replace(reply, stop="end")
    return replace(reply, calls=tuple(_call(call, n, quirks) for n, call in enumerate(reply.calls)))


def _call(call: Call, n: int, quirks: Quirks) -> Call:
    if Quirk.NAME_DOUBLED in quirks:
        call = replace(call, name=call.name * 2)
    if Quirk.NAME_WITH_TOKENS in quirks:
        call = replace(call, name=f"{call.name}<|channel|>commentary")
    if Quirk.ID_REPEATED in quirks:
        call = replace(call, id="call_same")
    if Quirk.ID_TOO_LONG in quirks:
        call = replace(call, id=f"call_{n}_" + "x" * 80)
    if Quirk.ID_ODD in quirks:
        call = replace(call, id=f"call_{n}|fc_{n}")
    if Quirk.ID_DOTTED in quirks:
        call = replace(call, id=f"functions.{call.name}:{n}")
    if Quirk.ARGUMENTS_CUT_OFF in quirks:
        call = replace(call, raw_arguments=call.arguments[: max(1, len(call.arguments) * 2 // 3)])
    if Quirk.ARGUMENTS_EMPTY in quirks:
        call = replace(call, raw_arguments="")
    return call


def _in_sevens(text: str) -> list[str]:
    return [text[i : i + 7] for i in range(0, len(text), 7)]


def as_text(quirk: Quirk, calls: Sequence[Call]) -> str:
    """Calls written into the answer, in the form that models of one family or another have."""
    if quirk is Quirk.CALL_AS_TOOL_CALL_TAG:
        return "\n".join(f"<tool_call>\n{_as_json(call, 'arguments')}\n</tool_call>" for call in calls)
    if quirk is Quirk.CALL_AS_FUNCTION_CALLS:
        return "<function_calls>\n" + "".join(_invoke(call) for call in calls) + "</function_calls>"
    if quirk is Quirk.CALL_AS_PYTHONIC:
        return f"[{', '.join(_pythonic(call) for call in calls)}]"
    if quirk is Quirk.CALL_AS_JSON_FENCE:
        return "\n".join(f"```json\n{_as_json(call, 'arguments')}\n```" for call in calls)
    return "; ".join(_as_json(call, "parameters") for call in calls)


def _as_json(call: Call, key: str) -> str:
    return f'{{"name": {json.dumps(call.name)}, "{key}": {call.arguments}}}'


def _invoke(call: Call) -> str:
    lines = "".join(f'<parameter name="{k}">{_plain(v)}</parameter>\n' for k, v in (call.args or {}).items())
    return f'<invoke name="{call.name}">\n{lines}</invoke>\n'


def _pythonic(call: Call) -> str:
    return f"{call.name}({', '.join(f'{k}={v!r}' for k, v in (call.args or {}).items())})"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
