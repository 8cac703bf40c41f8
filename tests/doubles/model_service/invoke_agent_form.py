"""InvokeAgent: a managed agent does the whole turn."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.doubles.model_service import converse_form, event_stream
from tests.doubles.model_service.quirks import Quirk
from tests.doubles.model_service.script import Call, Reply, ScriptError
from tests.doubles.model_service.wire import Ask, Event, Fault, Form, Refusal

ERRORS: dict[str, tuple[int, str, str]] = {
    **converse_form.ERRORS,
    "quota": (400, "ServiceQuotaExceededException", "Your request exceeds the service quota of your account."),
    "unknown_model": (404, "ResourceNotFoundException", "There is no such agent or alias."),
    "invalid_model_id": (404, "ResourceNotFoundException", "There is no such agent or alias."),
    "needs_profile": (404, "ResourceNotFoundException", "There is no such agent or alias."),
    "timeout": (504, "DependencyFailedException", "Something that the agent depends on took too long."),
    "not_ready": (424, "ModelNotReadyException", "The model is not ready for inference."),
    "model_error": (424, "DependencyFailedException", "Something that the agent depends on failed."),
    "unavailable": (502, "BadGatewayException", "Something that the agent depends on cannot be reached."),
}


def whole(_: Reply, __: Ask) -> Mapping[str, Any]:
    """There is no such thing."""
    raise ScriptError("InvokeAgent always streams")


def stream(reply: Reply, ask: Ask) -> list[Event]:
    """Traces where they are asked for, then the answer or the return of control."""
    return list(_events(reply, ask))


def refuse(fault: Fault) -> Refusal:
    """As Bedrock says it."""
    status, code, usual = ERRORS[fault.kind]
    return Refusal(
        fault.status or status, {"message": fault.words(usual)}, {"x-amzn-ErrorType": code, **fault.retry_after}
    )


def fault_event(fault: Fault) -> bytes:
    """An exception frame."""
    _, code, usual = ERRORS[fault.kind]
    return event_stream.exception(code[0].lower() + code[1:], fault.words(usual))


def invocation_id(ask: Ask) -> str:
    """Of the return of control that this answer makes."""
    return ask.make_id("inv-", length=32)


def _events(reply: Reply, ask: Ask) -> Iterator[Event]:
    if reply.stop not in (None, "end", "tool_use"):
        raise ScriptError(f"the wire 'bedrock-agent' has no way to say that the model stopped for {reply.stop!r}")
    if ask.body.get("enableTrace"):
        for trace in (*reply.traces, *_own_traces(reply)):
            yield _event("trace", {**_whose(ask), "trace": trace})
    if Quirk.UNKNOWN_EVENTS in reply.quirks:
        yield _event("heartbeat", {})
    if reply.calls:
        inputs = [_invocation(call) for call in reply.calls]
        yield _event("returnControl", {"invocationId": invocation_id(ask), "invocationInputs": inputs}, content=True)
        return
    streams = (ask.body.get("streamingConfigurations") or {}).get("streamFinalResponse")
    pieces = reply.text_pieces if streams else [reply.whole_text]
    for n, text in enumerate(pieces):
        chunk: dict[str, Any] = {"bytes": base64.b64encode(text.encode()).decode()}
        if n == len(pieces) - 1 and reply.citations:
            chunk["attribution"] = {"citations": list(reply.citations)}
        yield _event("chunk", chunk, content=True)


def _own_traces(reply: Reply) -> Iterator[dict[str, Any]]:
    """What the reply says besides its text, as a trace would say it."""
    if reply.usage:
        used = {"inputTokens": reply.usage.prompt, "outputTokens": reply.usage.output}
        said = {"traceId": "trace-0", "metadata": {"usage": used}}
        yield {"orchestrationTrace": {"modelInvocationOutput": said}}
    if reply.reasoning:
        yield {"orchestrationTrace": {"rationale": {"traceId": "trace-0", "text": reply.whole_reasoning}}}


def _whose(ask: Ask) -> dict[str, Any]:
    return {
        "agentId": ask.path["agent"],
        "agentAliasId": ask.path["alias"],
        "agentVersion": "1",
        "sessionId": ask.path["session"],
        "eventTime": "2026-01-01T00:00:00Z",
    }


def _invocation(call: Call) -> dict[str, Any]:
    parameters = [{"name": name, **_value(value)} for name, value in (call.args or {}).items()]
    function = {"actionGroup": call.group, "function": call.name, "parameters": parameters}
    return {"functionInvocationInput": {**function, "actionInvocationType": "RESULT"}}


def _value(value: Any) -> dict[str, str]:
    """Values are always text."""
    if isinstance(value, str):
        return {"type": "string", "value": value}
    kinds = {bool: "boolean", int: "integer", float: "number", list: "array"}
    return {"type": kinds.get(type(value), "string"), "value": json.dumps(value)}


def _event(name: str, body: dict[str, Any], content: bool = False) -> Event:
    return Event(event_stream.event(name, body), content)


FORM = Form(
    wire="bedrock-agent",
    stream_type=event_stream.CONTENT_TYPE,
    whole=whole,
    stream=stream,
    refuse=refuse,
    fault_event=fault_event,
    key_of=converse_form.access_key,
)
