"""Bedrock's Converse and ConverseStream, and the error form that all of Bedrock shares."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.doubles.model_service import event_stream
from tests.doubles.model_service.history_rules import signature_of
from tests.doubles.model_service.quirks import Quirk
from tests.doubles.model_service.script import Reply, Stop, Usage
from tests.doubles.model_service.wire import Ask, Event, Fault, Form, Refusal, argument_object, stop_word

STOPS: dict[Stop, str] = {
    "end": "end_turn",
    "tool_use": "tool_use",
    "max_tokens": "max_tokens",
    "stop_sequence": "stop_sequence",
    "guardrail": "guardrail_intervened",
    "content_filter": "content_filtered",
    "context_exceeded": "model_context_window_exceeded",
    "malformed_output": "malformed_model_output",
    "malformed_tool_use": "malformed_tool_use",
}
ERRORS: dict[str, tuple[int, str, str]] = {
    "bad_request": (400, "ValidationException", "The request is not valid."),
    "context_too_long": (400, "ValidationException", "Input is too long for requested model."),
    "invalid_model_id": (400, "ValidationException", "The provided model identifier is invalid."),
    "needs_profile": (
        400,
        "ValidationException",
        "Invocation of model ID {model} with on-demand throughput isn't supported. "
        "Use the ID or ARN of an inference profile that contains it.",
    ),
    "unknown_model": (404, "ResourceNotFoundException", "Could not resolve the foundation model {model}."),
    "quota": (400, "ServiceQuotaExceededException", "Your request exceeds the service quota of your account."),
    "auth": (403, "UnrecognizedClientException", "The security token included in the request is invalid."),
    "forbidden": (403, "AccessDeniedException", "You don't have access to the model with the specified model ID."),
    "timeout": (408, "ModelTimeoutException", "The model took too long."),
    "throttled": (429, "ThrottlingException", "Too many requests, please wait before trying again."),
    "not_ready": (429, "ModelNotReadyException", "The model is not ready for inference."),
    # Nova's broken calls end so, whole answers too: strands-agents/harness-sdk#649.
    "model_error": (424, "ModelErrorException", "Model produced invalid sequence as part of ToolUse."),
    "internal": (500, "InternalServerException", "The system met an unexpected error."),
    "unavailable": (503, "ServiceUnavailableException", "Bedrock is unable to process your request."),
}
# What a stream can carry once it has begun.
IN_STREAM = {
    "ThrottlingException": "throttlingException",
    "ValidationException": "validationException",
    "InternalServerException": "internalServerException",
    "ServiceUnavailableException": "serviceUnavailableException",
    "ModelErrorException": "modelStreamErrorException",
}
_CREDENTIAL = re.compile(r"Credential=([^/]+)/")


def whole(reply: Reply, ask: Ask) -> Mapping[str, Any]:
    """The body of a Converse response."""
    content: list[dict[str, Any]] = []
    if reply.reasoning:
        text = {"text": reply.whole_reasoning, "signature": signature(reply, ask)}
        content.append({"reasoningContent": {"reasoningText": text}})
    texts, after = _texts(reply)
    content += [{"text": "".join(block)} for block in texts]
    for n, call in enumerate(reply.calls):
        tool_id = call.id or ask.make_id("tooluse_", n)
        content.append(
            {"toolUse": {"toolUseId": tool_id, "name": call.name, "input": argument_object(call.arguments or "{}")}}
        )
    content += [{"text": "".join(block)} for block in after]
    message = {"role": "assistant", "content": content}
    body = {"output": {"message": message}, "stopReason": _stop(reply), "metrics": {"latencyMs": 120}}
    return {**body, "usage": _usage(reply.usage)} if reply.usage else body


def stream(reply: Reply, ask: Ask) -> list[Event]:
    """Framed events."""
    return list(_events(reply, ask))


def refuse(fault: Fault) -> Refusal:
    """The message, and the code in a header."""
    status, code, usual = ERRORS[fault.kind]
    headers = {"x-amzn-ErrorType": f"{code}:http://internal.amazon.com/coral/com.amazon.bedrock/", **fault.retry_after}
    return Refusal(fault.status or status, {"message": fault.words(usual)}, headers)


def fault_event(fault: Fault) -> bytes:
    """An exception frame."""
    _, code, usual = ERRORS[fault.kind]
    return event_stream.exception(IN_STREAM.get(code, "internalServerException"), fault.words(usual))


def access_key(headers: Mapping[str, str]) -> str:
    """The access key id of a signed request."""
    found = _CREDENTIAL.search(headers.get("authorization", ""))
    return found[1] if found else ""


def signature(reply: Reply, ask: Ask) -> str:
    """What proves the reasoning to be this model's."""
    return reply.reasoning_signature or signature_of("bedrock", ask.model, reply.whole_reasoning)


def _events(reply: Reply, ask: Ask) -> Iterator[Event]:
    yield _event("messageStart", {"role": "assistant"})
    if Quirk.UNKNOWN_EVENTS in reply.quirks:
        yield _event("thoughtSummary", {"note": "of a later version"})
    index = 0
    if reply.reasoning:
        for text in reply.reasoning_pieces:
            yield _delta(index, {"reasoningContent": {"text": text}})
        yield _delta(index, {"reasoningContent": {"signature": signature(reply, ask)}}, content=False)
        yield _event("contentBlockStop", {"contentBlockIndex": index})
        index += 1
    texts, after = _texts(reply)
    for block in texts:
        yield from _text_block(index, block)
        index += 1
    for n, call in enumerate(reply.calls):
        start = {"toolUse": {"toolUseId": call.id or ask.make_id("tooluse_", n), "name": call.name}}
        yield _event("contentBlockStart", {"contentBlockIndex": index, "start": start})
        for text in reply.argument_pieces(call) or [""]:
            yield _delta(index, {"toolUse": {"input": text}})
        yield _event("contentBlockStop", {"contentBlockIndex": index})
        index += 1
    for block in after:
        yield from _text_block(index, block)
        index += 1
    yield _event("messageStop", {"stopReason": _stop(reply)})
    if reply.usage:
        yield _event("metadata", {"usage": _usage(reply.usage), "metrics": {"latencyMs": 120}})


def _text_block(index: int, pieces: list[str]) -> Iterator[Event]:
    for text in pieces:
        yield _delta(index, {"text": text})
    yield _event("contentBlockStop", {"contentBlockIndex": index})


def _texts(reply: Reply) -> tuple[list[list[str]], list[list[str]]]:
    """The text blocks before the calls, and those after them."""
    pieces = reply.text_pieces
    if not pieces:
        return [], []
    if Quirk.TEXT_AFTER_CALLS in reply.quirks:
        return [], [pieces]
    if Quirk.TWO_TEXT_BLOCKS in reply.quirks:
        half = max(1, len(pieces) // 2)
        return [part for part in (pieces[:half], pieces[half:]) if part], []
    return [pieces], []


def _stop(reply: Reply) -> str:
    return stop_word(STOPS, reply, "bedrock")


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "inputTokens": usage.input,
        "outputTokens": usage.output,
        "totalTokens": usage.prompt + usage.output,
        "cacheReadInputTokens": usage.cache_read,
        "cacheWriteInputTokens": usage.cache_write,
    }


def _delta(index: int, delta: dict[str, Any], content: bool = True) -> Event:
    return Event(event_stream.event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}), content)


def _event(name: str, body: dict[str, Any]) -> Event:
    return Event(event_stream.event(name, body))


FORM = Form(
    wire="bedrock",
    stream_type=event_stream.CONTENT_TYPE,
    whole=whole,
    stream=stream,
    refuse=refuse,
    fault_event=fault_event,
    key_of=access_key,
)
