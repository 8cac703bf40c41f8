"""What of a conversation a model is shown: whole turns, the newest first, as many as it can read.

Turns that were summed up are left to their summary, of a long tool result the beginning is shown, and of the documents
that earlier turns read no more than which they were. Pure: the
transcript itself is never cut.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, pairwise

from agent.by_object import ByObject
from agent.long_results import READ, cut
from agent.passages import forgotten
from agent.providers.base import Capabilities, ModelRequest, Tokens
from agent.providers.prompt import result_text, system_text
from agent.routing.failover import Tried
from agent.transcript import AssistantMessage, Message, SummaryMessage, ToolMessage, UserMessage
from tools.contract import ToolSpec

# A token is about so many characters. Rather too many: a provider that finds the conversation too long says so and is
# asked again with less of it, but a turn that was left out for nothing is missed by nobody except the person.
ASCII_CHARS, OTHER_CHARS, CJK_CHARS = 4, 3, 1.5
_CJK = re.compile("[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
# What frames a message, a call or a tool, in tokens.
FRAME_TOKENS = 8
RESULT_CHARS = 16_000
# Of a result that has to shrink further, this much is always shown.
LEAST_RESULT_CHARS = 1_000


def fit(
    request: ModelRequest, capabilities: Capabilities, tried: Tried, result_chars: int = RESULT_CHARS
) -> ModelRequest:
    """The request as this model is to read it.

    It has as many of the newest turns as there is room for, the present one always among them; where that alone is too
    big, its tool results shrink. Results of more than `result_chars` characters are cut, and then a tool to read on in
    them is offered. A summary takes the place of the turns it covers.
    """
    if not capabilities.reads_prose:
        said = tuple(m for m in request.messages if not isinstance(m, SummaryMessage))
        return replace(request, messages=said, plain=tried.plain)
    given = _remembered(request.messages)
    turns, summary = uncovered(given)
    facts = replace(request.facts, summary=summary) if summary else request.facts
    asked = replace(request, messages=(), facts=facts, plain=tried.plain)
    room = capabilities.max_context_tokens - capabilities.max_output_tokens - _fixed(asked)
    shown = _newest(turns, room, result_chars, capabilities)
    if tried.shorter:
        room = min(room, sum(size(message) for turn in shown for message in turn)) // 2
        shown = _newest(turns, room, result_chars, capabilities)
    messages, known = tuple(chain.from_iterable(shown)), set(map(id, given))
    reads_on = _reads_on(capabilities) and any(id(message) not in known for message in messages)
    return replace(asked, messages=messages, tools=(*request.tools, READ) if reads_on else request.tools)


def expected(request: ModelRequest, capabilities: Capabilities) -> Tokens:
    """What a call will cost, estimated: all that is shown, and as much as the model may write."""
    given = _fixed(request) + sum(map(size, request.messages))
    return Tokens(given, capabilities.max_output_tokens, estimated=True)


def size(message: Message) -> int:
    """Of a message, in tokens, estimated."""
    return _SIZES.of(message)


def _size(message: Message) -> int:
    match message:
        case ToolMessage():
            return FRAME_TOKENS + _tokens(result_text(message.result))
        case AssistantMessage():
            calls = sum(FRAME_TOKENS + _tokens(call.name) + _tokens(str(call.args)) for call in message.tool_calls)
            return FRAME_TOKENS + _tokens(message.text) + calls
    return FRAME_TOKENS + _tokens(message.text)


def turns_of(messages: Sequence[Message]) -> list[Sequence[Message]]:
    """The messages, parted before each of the person's."""
    starts = [n for n, message in enumerate(messages) if isinstance(message, UserMessage)]
    if messages and (not starts or starts[0] != 0):
        starts.insert(0, 0)
    return [messages[a:b] for a, b in pairwise([*starts, len(messages)])]


def uncovered(messages: Sequence[Message]) -> tuple[list[Sequence[Message]], str]:
    """The turns that no summary covers, and the latest summary, which covers all before them ("": there is none)."""
    turns = turns_of(messages)
    for position in range(len(turns) - 1, -1, -1):
        for message in reversed(turns[position]):
            if isinstance(message, SummaryMessage):
                said = [_without_summaries(turn) for turn in turns[max(0, position - message.keeps) :]]
                return [turn for turn in said if turn], message.text
    return turns, ""


def _remembered(messages: Sequence[Message]) -> list[Message]:
    """The messages without what documents said in turns before the present one."""
    begun = max((n for n, message in enumerate(messages) if isinstance(message, UserMessage)), default=0)
    return [*map(forgotten, messages[:begun]), *messages[begun:]]


def _without_summaries(turn: Sequence[Message]) -> Sequence[Message]:
    return [message for message in turn if not isinstance(message, SummaryMessage)]


def _cut(turn: Sequence[Message], limit: int, capabilities: Capabilities) -> list[Message]:
    return [cut(m, limit, readable=_reads_on(capabilities)) if isinstance(m, ToolMessage) else m for m in turn]


def _reads_on(capabilities: Capabilities) -> bool:
    return capabilities.tools and not capabilities.managed


def _newest(
    turns: Sequence[Sequence[Message]], room: int, limit: int, capabilities: Capabilities
) -> list[list[Message]]:
    """The last of the turns as they are shown, and those before it as far as there is room."""
    shown: list[list[Message]] = []
    for turn in reversed(turns):
        part = _cut(turn, limit, capabilities) if shown else _shrunk(turn, room, limit, capabilities)
        room -= sum(map(size, part))
        if shown and room < 0:
            break
        shown.append(part)
    return shown[::-1]


def _shrunk(turn: Sequence[Message], room: int, limit: int, capabilities: Capabilities) -> list[Message]:
    """The present turn, with its results cut further if it is too big alone: the longest first."""
    shown = _cut(turn, limit, capabilities)
    while limit > LEAST_RESULT_CHARS and sum(map(size, shown)) > room:
        limit = max(limit // 2, LEAST_RESULT_CHARS)
        shown = _cut(turn, limit, capabilities)
    return shown


def _fixed(request: ModelRequest) -> int:
    return FRAME_TOKENS + _tokens(system_text(request)) + sum(map(_TOOL_SIZES.of, request.tools))


def _tool_size(spec: ToolSpec) -> int:
    return FRAME_TOKENS + _tokens(f"{spec.name} {spec.description} {spec.parameters}")


def _tokens(text: str) -> int:
    if text.isascii():
        return len(text) // ASCII_CHARS
    plain, dense = len(text.encode("ascii", "ignore")), len(_CJK.findall(text))
    return int(plain / ASCII_CHARS + (len(text) - plain - dense) / OTHER_CHARS + dense / CJK_CHARS)


_SIZES: ByObject[Message, int] = ByObject(_size, kept=8_192, weigh=int, most=8_000_000)
_TOOL_SIZES: ByObject[ToolSpec, int] = ByObject(_tool_size, kept=1_024)
