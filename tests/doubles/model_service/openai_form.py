"""Chat Completions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from tests.doubles.model_service.quirks import Quirk
from tests.doubles.model_service.script import Call, Reply, Stop, Usage
from tests.doubles.model_service.wire import Ask, Event, Fault, Form, Refusal, argument_object, stop_word

STOPS: dict[Stop, str] = {
    "end": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "stop_sequence": "stop",
    "guardrail": "content_filter",
    "content_filter": "content_filter",
}
# status, type, code, words
ERRORS: dict[str, tuple[int, str, str | None, str]] = {
    "bad_request": (400, "invalid_request_error", None, "The request is not valid."),
    "context_too_long": (
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "This model's maximum context length is 8192 tokens. Your messages came to 9001 tokens.",
    ),
    "invalid_model_id": (404, "invalid_request_error", "model_not_found", "The model `{model}` does not exist."),
    "needs_profile": (404, "invalid_request_error", "model_not_found", "The model `{model}` does not exist."),
    "unknown_model": (404, "invalid_request_error", "model_not_found", "The model `{model}` does not exist."),
    "quota": (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota."),
    "auth": (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    "forbidden": (403, "invalid_request_error", "unsupported_country_region_territory", "Not allowed from here."),
    "timeout": (408, "timeout", None, "The request timed out."),
    "throttled": (429, "requests", "rate_limit_exceeded", "Rate limit reached for {model} on requests per min."),
    "not_ready": (503, "server_error", None, "The model is still loading."),
    "model_error": (500, "server_error", None, "The model produced invalid content."),
    "internal": (500, "server_error", None, "The server had an error while processing your request."),
    "unavailable": (503, "server_error", None, "The engine is currently overloaded, please try again later."),
}


def whole(reply: Reply, ask: Ask) -> Mapping[str, Any]:
    """A `chat.completion`."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.whole_text or None, "refusal": None}
    if reply.reasoning:
        message[_reasoning_name(reply)] = reply.whole_reasoning
    if reply.calls:
        message["tool_calls"] = [_whole_call(reply, call, n, ask) for n, call in enumerate(reply.calls)]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply)}
    body = {**_head(ask, "chat.completion"), "choices": [choice]}
    return {**body, "usage": _usage(reply.usage)} if reply.usage else body


def stream(reply: Reply, ask: Ask) -> list[Event]:
    """Chunks as server-sent events."""
    return list(_events(reply, ask))


def refuse(fault: Fault) -> Refusal:
    """The error object, under the status."""
    status, kind, code, usual = ERRORS[fault.kind]
    body = {"error": {"message": fault.words(usual), "type": kind, "param": None, "code": code}}
    return Refusal(fault.status or status, body, {"x-request-id": "req_scripted", **fault.retry_after})


def fault_event(fault: Fault) -> bytes:
    """The error object in the place of a chunk."""
    return _data(refuse(fault).body)


def _events(reply: Reply, ask: Ask) -> Iterator[Event]:
    quirks = reply.quirks
    if Quirk.COMMENT_LINES in quirks:
        yield _event(reply, b": waiting for a place\n\n")
    if Quirk.EMPTY_CHOICES in quirks:
        yield _event(reply, _data({**_head(ask), "choices": [], "prompt_filter_results": []}))
    first: dict[str, Any] = {"role": "assistant"}
    if Quirk.ROLE_ONLY_FIRST not in quirks:
        first["content"] = None if Quirk.NULL_CONTENT in quirks else ""
    yield _chunk(reply, ask, first)
    for text in reply.reasoning_pieces:
        yield _chunk(reply, ask, _with_null({_reasoning_name(reply): text}, quirks), content=True)
    for text in reply.text_pieces:
        yield _chunk(reply, ask, {"content": text}, content=True)
        if Quirk.COMMENT_LINES in quirks:
            yield _event(reply, b": still here\n\n")
    for n, call in enumerate(reply.calls):
        for delta in _call_deltas(reply, call, n, ask):
            yield _chunk(reply, ask, _with_null({"tool_calls": [delta]}, quirks), content=True)
    if Quirk.STOP_MISSING not in quirks:
        yield _chunk(reply, ask, None if Quirk.DELTA_NULL in quirks else {}, finish=_finish(reply))
    wanted = (ask.body.get("stream_options") or {}).get("include_usage")
    if reply.usage and wanted and Quirk.USAGE_IN_EVERY_CHUNK not in quirks:
        yield _event(reply, _data({**_head(ask), "choices": [], "usage": _usage(reply.usage)}))
    if not {Quirk.NO_DONE, Quirk.STAYS_OPEN}.intersection(quirks):
        yield _event(reply, b"data: [DONE]\n\n")


def _chunk(
    reply: Reply, ask: Ask, delta: dict[str, Any] | None, finish: str | None = None, content: bool = False
) -> Event:
    body: dict[str, Any] = {
        **_head(ask),
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }
    if reply.usage and Quirk.USAGE_IN_EVERY_CHUNK in reply.quirks:
        body["usage"] = _usage(reply.usage)
    return _event(reply, _data(body), content)


def _call_deltas(reply: Reply, call: Call, n: int, ask: Ask) -> Iterator[dict[str, Any]]:
    quirks = reply.quirks
    place: dict[str, Any] = {"index": 0 if Quirk.INDEX_ALL_ZERO in quirks else n}
    if Quirk.INDEX_MISSING in quirks:
        place = {}
    call_id = call.id or ask.make_id("call_", n)
    first: dict[str, Any] = {**place, "id": call_id, "type": "function"}
    if Quirk.ID_MISSING in quirks:
        del first["id"]
    if Quirk.ID_LATE in quirks:
        first["id"] = None
    if Quirk.ARGUMENTS_AS_OBJECT in quirks:
        yield {**first, "function": {"name": call.name, "arguments": argument_object(call.arguments)}}
        return
    head, tail = call.name, ""
    if Quirk.NAME_IN_PARTS in quirks:
        half = len(call.name) // 2
        head, tail = call.name[:half], call.name[half:]
    more = {} if Quirk.NAME_APART_FROM_ARGUMENTS in quirks else {"arguments": ""}
    yield {**first, "function": {"name": head, **more}}
    if tail:
        yield {**place, "function": {"name": tail}}
    pieces = reply.argument_pieces(call)
    if Quirk.ARGUMENTS_REPEATED in quirks:
        pieces.append(call.arguments)
    for at, text in enumerate(pieces):
        yield {**place, **_later(quirks, call, call_id, at == len(pieces) - 1, text)}


def _later(quirks: Any, call: Call, call_id: str, last: bool, text: str) -> dict[str, Any]:
    """A piece after the first: nothing but arguments, if there is no quirk."""
    function = {"arguments": text}
    if Quirk.NAME_IN_EACH_PIECE in quirks:
        function["name"] = call.name
    if Quirk.EMPTY_AFTER_FIRST in quirks:
        return {"id": "", "function": {**function, "name": ""}}
    if Quirk.ID_IN_EACH_PIECE in quirks or (last and Quirk.ID_LATE in quirks):
        return {"id": call_id, "function": function}
    return {"function": function}


def _whole_call(reply: Reply, call: Call, n: int, ask: Ask) -> dict[str, Any]:
    arguments = argument_object(call.arguments) if Quirk.ARGUMENTS_AS_OBJECT in reply.quirks else call.arguments
    body = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return body if Quirk.ID_MISSING in reply.quirks else {"id": call.id or ask.make_id("call_", n), **body}


def _finish(reply: Reply) -> str:
    return stop_word(STOPS, reply, "openai")


def _reasoning_name(reply: Reply) -> str:
    return "reasoning" if Quirk.REASONING_FIELD in reply.quirks else "reasoning_content"


def _with_null(delta: dict[str, Any], quirks: Any) -> dict[str, Any]:
    return {"content": None, **delta} if Quirk.NULL_CONTENT in quirks else delta


def _head(ask: Ask, kind: str = "chat.completion.chunk") -> dict[str, Any]:
    return {"id": ask.make_id("chatcmpl-"), "object": kind, "created": 1_767_225_600, "model": ask.model}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.output,
        "total_tokens": usage.prompt + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "audio_tokens": 0},
    }


def _data(body: Any) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _event(reply: Reply, data: bytes, content: bool = False) -> Event:
    if Quirk.NO_SPACE in reply.quirks:
        data = data.replace(b"data: ", b"data:", 1)
    return Event(data.replace(b"\n", b"\r\n") if Quirk.CRLF in reply.quirks else data, content)


FORM = Form(
    wire="openai",
    stream_type="text/event-stream; charset=utf-8",
    whole=whole,
    stream=stream,
    refuse=refuse,
    fault_event=fault_event,
    key_of=lambda headers: headers.get("authorization", "").removeprefix("Bearer "),
)
