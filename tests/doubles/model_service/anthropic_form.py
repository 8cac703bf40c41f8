"""Anthropic's Messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from tests.doubles.model_service.history_rules import signature_of
from tests.doubles.model_service.quirks import Quirk
from tests.doubles.model_service.script import Reply, Stop, Usage
from tests.doubles.model_service.wire import Ask, Event, Fault, Form, Refusal, argument_object, stop_word

STOPS: dict[Stop, str] = {
    "end": "end_turn",
    "tool_use": "tool_use",
    "max_tokens": "max_tokens",
    "stop_sequence": "stop_sequence",
    "guardrail": "refusal",
    "content_filter": "refusal",
    "context_exceeded": "model_context_window_exceeded",
}
ERRORS: dict[str, tuple[int, str, str]] = {
    "bad_request": (400, "invalid_request_error", "The request is not valid."),
    "context_too_long": (400, "invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum"),
    "invalid_model_id": (404, "not_found_error", "model: {model}"),
    "needs_profile": (404, "not_found_error", "model: {model}"),
    "unknown_model": (404, "not_found_error", "model: {model}"),
    "quota": (400, "invalid_request_error", "Your credit balance is too low."),
    "auth": (401, "authentication_error", "invalid x-api-key"),
    "forbidden": (403, "permission_error", "Your API key may not use this."),
    "timeout": (504, "timeout_error", "The request timed out."),
    "throttled": (429, "rate_limit_error", "This request would exceed your rate limit."),
    "not_ready": (529, "overloaded_error", "Overloaded"),
    "model_error": (500, "api_error", "Internal server error"),
    "internal": (500, "api_error", "Internal server error"),
    "unavailable": (529, "overloaded_error", "Overloaded"),
}


def whole(reply: Reply, ask: Ask) -> Mapping[str, Any]:
    """A message."""
    content = [_joined(start, deltas) for start, deltas in _blocks(reply, ask)]
    return {**_message(ask), "content": content, "stop_reason": _stop(reply), **_used(reply.usage)}


def stream(reply: Reply, ask: Ask) -> list[Event]:
    """Server-sent events, each named as it says inside."""
    return list(_events(reply, ask))


def refuse(fault: Fault) -> Refusal:
    """The error object, under the status."""
    status, _, _ = ERRORS[fault.kind]
    return Refusal(fault.status or status, _error(fault), {"request-id": "req_scripted", **fault.retry_after})


def fault_event(fault: Fault) -> bytes:
    """An `error` event."""
    return _sse("error", _error(fault))


def _error(fault: Fault) -> dict[str, Any]:
    _, kind, usual = ERRORS[fault.kind]
    return {"type": "error", "error": {"type": kind, "message": fault.words(usual)}, "request_id": "req_scripted"}


Block = tuple[dict[str, Any], list[dict[str, Any]]]


def _blocks(reply: Reply, ask: Ask) -> list[Block]:
    """Each block as it starts, and what is added to it."""
    blocks: list[Block] = []
    if reply.reasoning:
        signature = reply.reasoning_signature or signature_of("anthropic", ask.model, reply.whole_reasoning)
        thoughts = [{"type": "thinking_delta", "thinking": text} for text in reply.reasoning_pieces]
        start = {"type": "thinking", "thinking": "", "signature": ""}
        blocks.append((start, [*thoughts, {"type": "signature_delta", "signature": signature}]))
    pieces = reply.text_pieces
    half = max(1, len(pieces) // 2) if Quirk.TWO_TEXT_BLOCKS in reply.quirks else len(pieces)
    texts: list[Block] = [
        ({"type": "text", "text": ""}, [{"type": "text_delta", "text": text} for text in part])
        for part in (pieces[:half], pieces[half:])
        if part
    ]
    calls: list[Block] = []
    for n, call in enumerate(reply.calls):
        opening: dict[str, Any] = {
            "type": "tool_use",
            "id": call.id or ask.make_id("toolu_", n),
            "name": call.name,
            "input": {},
        }
        parts = ["", *reply.argument_pieces(call)]
        calls.append((opening, [{"type": "input_json_delta", "partial_json": text} for text in parts]))
    return blocks + (calls + texts if Quirk.TEXT_AFTER_CALLS in reply.quirks else texts + calls)


def _joined(start: dict[str, Any], deltas: list[dict[str, Any]]) -> dict[str, Any]:
    """The block when all is said."""
    block = dict(start)
    for name in ("text", "thinking", "signature"):
        if name in block:
            block[name] = "".join(delta.get(name, "") for delta in deltas)
    if "input" in block:
        raw = "".join(delta["partial_json"] for delta in deltas)
        block["input"] = argument_object(raw) if raw else {}
    return block


def _events(reply: Reply, ask: Ask) -> Iterator[Event]:
    opening = {**_message(ask), "content": [], "stop_reason": None, **_used(reply.usage, output=1)}
    yield _event(reply, "message_start", {"message": opening})
    if Quirk.COMMENT_LINES in reply.quirks:
        yield Event(b": keep-alive\n\n")
    for index, (start, deltas) in enumerate(_blocks(reply, ask)):
        yield _event(reply, "content_block_start", {"index": index, "content_block": start})
        if index == 0:
            yield _event(reply, "ping", {})
        if Quirk.UNKNOWN_EVENTS in reply.quirks:
            yield _event(reply, "content_block_note", {"index": index, "note": "of a later version"})
        for delta in deltas:
            said = delta.get("text") or delta.get("thinking") or delta.get("partial_json")
            yield _event(reply, "content_block_delta", {"index": index, "delta": delta}, content=bool(said))
        yield _event(reply, "content_block_stop", {"index": index})
    ended = {"delta": {"stop_reason": _stop(reply), "stop_sequence": None}}
    yield _event(reply, "message_delta", {**ended, **_used(reply.usage)})
    yield _event(reply, "message_stop", {})


def _event(reply: Reply, name: str, body: dict[str, Any], content: bool = False) -> Event:
    data = _sse(name, {"type": name, **body})
    return Event(data.replace(b"\n", b"\r\n") if Quirk.CRLF in reply.quirks else data, content)


def _sse(name: str, body: Mapping[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(body) + b"\n\n"


def _message(ask: Ask) -> dict[str, Any]:
    head = {"id": ask.make_id("msg_"), "type": "message", "role": "assistant", "model": ask.model}
    return {**head, "stop_sequence": None}


def _stop(reply: Reply) -> str:
    return stop_word(STOPS, reply, "anthropic")


def _used(usage: Usage | None, output: int | None = None) -> dict[str, Any]:
    if usage is None:
        return {}
    counts = {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output if output is None else output,
    }
    return {"usage": counts}


FORM = Form(
    wire="anthropic",
    stream_type="text/event-stream; charset=utf-8",
    whole=whole,
    stream=stream,
    refuse=refuse,
    fault_event=fault_event,
    key_of=lambda headers: headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer "),
)
