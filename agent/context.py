"""What of a conversation a model is shown: whole turns, the newest first, as many as it can read.

Pure: the transcript itself is never cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.providers.base import Capabilities, ModelRequest, Tokens
from agent.providers.prompt import result_text, system_text
from agent.routing.failover import Tried
from agent.transcript import AssistantMessage, Message, ToolMessage, UserMessage

# About four bytes of text are a token, in any script; what frames a message or a call is some more.
BYTES_PER_TOKEN = 4
FRAME_TOKENS = 8
TOOL_TOKENS = 150


def fit(request: ModelRequest, capabilities: Capabilities, tried: Tried) -> ModelRequest:
    """The request with as many of its newest turns as the model can read, the present one always among them."""
    room = capabilities.max_context_tokens - capabilities.max_output_tokens - _fixed(request)
    messages = _newest(request.messages, room // 2 if tried.shorter else room)
    return replace(request, messages=messages, plain=tried.plain)


def expected(request: ModelRequest, capabilities: Capabilities) -> Tokens:
    """What a call will cost at most, as far as can be known before it."""
    given = _fixed(request) + sum(map(size, request.messages))
    return Tokens(given, capabilities.max_output_tokens, estimated=True)


def size(message: Message) -> int:
    """Of a message, in tokens, estimated."""
    match message:
        case UserMessage(text=text):
            return FRAME_TOKENS + _tokens(text)
        case ToolMessage():
            return FRAME_TOKENS + _tokens(result_text(message.result))
        case AssistantMessage():
            calls = sum(FRAME_TOKENS + _tokens(call.name) + _tokens(str(call.args)) for call in message.tool_calls)
            return FRAME_TOKENS + _tokens(message.text) + calls


def _newest(messages: tuple[Message, ...], room: int) -> tuple[Message, ...]:
    turns = _turns(messages)
    begin = len(messages) - len(turns[-1]) if turns else 0
    room -= sum(map(size, messages[begin:]))
    for turn in reversed(turns[:-1]):
        room -= sum(map(size, turn))
        if room < 0:
            break
        begin -= len(turn)
    return messages[begin:]


def _turns(messages: Sequence[Message]) -> list[Sequence[Message]]:
    """The messages, parted before each of the person's."""
    starts = [n for n, message in enumerate(messages) if isinstance(message, UserMessage)]
    if not starts or starts[0] != 0:
        starts.insert(0, 0)
    return [messages[a:b] for a, b in zip(starts, [*starts[1:], len(messages)], strict=True)] if messages else []


def _fixed(request: ModelRequest) -> int:
    return FRAME_TOKENS + _tokens(system_text(request)) + TOOL_TOKENS * len(request.tools)


def _tokens(text: str) -> int:
    return (len(text) if text.isascii() else len(text.encode())) // BYTES_PER_TOKEN
