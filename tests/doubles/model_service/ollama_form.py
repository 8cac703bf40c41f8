"""Ollama's own chat API: one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from tests.doubles.model_service.quirks import Quirk
from tests.doubles.model_service.script import Reply, Stop, Usage
from tests.doubles.model_service.wire import Ask, Event, Fault, Form, Refusal, argument_object, stop_word

STOPS: dict[Stop, str] = {"end": "stop", "tool_use": "stop", "stop_sequence": "stop", "max_tokens": "length"}
ERRORS: dict[str, tuple[int, str]] = {
    "bad_request": (400, "invalid request"),
    "context_too_long": (400, "the input length exceeds the context length"),
    "invalid_model_id": (400, "invalid model name"),
    "needs_profile": (404, 'model "{model}" not found, try pulling it first'),
    "unknown_model": (404, 'model "{model}" not found, try pulling it first'),
    "quota": (402, "this account has no credit left"),
    "auth": (401, "unauthorized"),
    "forbidden": (403, "forbidden"),
    "timeout": (408, "timed out waiting for the runner to start"),
    "throttled": (429, "too many requests"),
    "not_ready": (503, "the model is being loaded"),
    # What Ollama makes of arguments that are not JSON: langchain-ai/langchain#34746.
    "model_error": (500, "error parsing tool call: raw='{', err=unexpected end of JSON input"),
    "internal": (500, "an error was encountered while running the model"),
    "unavailable": (503, "server busy, please try again. maximum pending requests exceeded"),
}


def whole(reply: Reply, ask: Ask) -> Mapping[str, Any]:
    """One object with everything in it."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.whole_text}
    if reply.reasoning:
        message["thinking"] = reply.whole_reasoning
    if reply.calls:
        message["tool_calls"] = _calls(reply, ask)
    return {**_head(ask), "message": message, **_end(reply)}


def stream(reply: Reply, ask: Ask) -> list[Event]:
    """Lines, the last one with the counts."""
    return list(_lines(reply, ask))


def refuse(fault: Fault) -> Refusal:
    """`{"error": "…"}` under the status."""
    status, usual = ERRORS[fault.kind]
    return Refusal(fault.status or status, {"error": fault.words(usual)}, fault.retry_after)


def fault_event(fault: Fault) -> bytes:
    """The same object as a line of the stream."""
    return orjson.dumps(refuse(fault).body) + b"\n"


def _lines(reply: Reply, ask: Ask) -> Iterator[Event]:
    for text in reply.reasoning_pieces:
        yield _line(reply, ask, {"role": "assistant", "content": "", "thinking": text})
    for text in reply.text_pieces:
        yield _line(reply, ask, {"role": "assistant", "content": text})
    calls = _calls(reply, ask)
    groups = [[call] for call in calls] if Quirk.CALLS_APART in reply.quirks else [calls] if calls else []
    for group in groups:
        yield _line(reply, ask, {"role": "assistant", "content": "", "tool_calls": group})
    last = {**_head(ask), "message": {"role": "assistant", "content": ""}, **_end(reply)}
    yield Event(_ended(reply, last))


def _line(reply: Reply, ask: Ask, message: dict[str, Any]) -> Event:
    return Event(_ended(reply, {**_head(ask), "message": message, "done": False}), content=True)


def _ended(reply: Reply, body: dict[str, Any]) -> bytes:
    return orjson.dumps(body) + (b"\r\n" if Quirk.CRLF in reply.quirks else b"\n")


def _calls(reply: Reply, ask: Ask) -> list[dict[str, Any]]:
    """Without ids, as for years; newer servers give `id` and `index`."""
    calls: list[dict[str, Any]] = []
    for n, call in enumerate(reply.calls):
        function = {"name": call.name, "arguments": argument_object(call.arguments)}
        if Quirk.IDS_GIVEN in reply.quirks:
            calls.append({"id": call.id or ask.make_id("call_", n, 8), "function": {"index": n, **function}})
        else:
            calls.append({"function": function})
    return calls


def _head(ask: Ask) -> dict[str, Any]:
    return {"model": ask.model, "created_at": "2026-01-01T00:00:00.000000000Z"}


def _end(reply: Reply) -> dict[str, Any]:
    return {"done": True, "done_reason": stop_word(STOPS, reply, "ollama"), **_counts(reply.usage)}


def _counts(usage: Usage | None) -> dict[str, int]:
    if usage is None:
        return {}
    return {
        "total_duration": 120_000_000,
        "load_duration": 10_000_000,
        "prompt_eval_count": usage.prompt,
        "prompt_eval_duration": 40_000_000,
        "eval_count": usage.output,
        "eval_duration": 70_000_000,
    }


FORM = Form(
    wire="ollama",
    stream_type="application/x-ndjson",
    whole=whole,
    stream=stream,
    refuse=refuse,
    fault_event=fault_event,
    key_of=lambda headers: headers.get("authorization", "").removeprefix("Bearer "),
)
