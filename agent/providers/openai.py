"""Models behind Chat Completions: `openai` itself, and `local` servers of one's own (vLLM, llama.cpp, LM Studio)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import orjson

from agent.providers.base import Capabilities, ModelRequest, Probe, Provider
from agent.providers.history import Entry, Said, entries, taking_turns
from agent.providers.http import LIBRARY_ERRORS, classify, unusable
from agent.providers.openai_wire import ChatCompletionsWire, OpenAIConfig
from agent.providers.prompt import result_text, system_text
from agent.transcript import JsonObject
from tools.contract import ToolSpec

__all__ = ["LOCAL", "OPENAI", "OpenAIConfig", "local", "openai", "render_chat", "render_tool"]

OPENAI = Capabilities(prompt_caching=True)
# A server of one's own is assumed to know less.
LOCAL = Capabilities(parallel_tool_calls=False, reports_usage=False, max_context_tokens=32_000)


def openai(config: OpenAIConfig, name: str = "openai", capabilities: Capabilities = OPENAI) -> Provider:
    """OpenAI, or whatever is fully compatible with it."""
    return _provider("openai", name, config, capabilities)


def local(config: OpenAIConfig, name: str = "local", capabilities: Capabilities = LOCAL) -> Provider:
    """An OpenAI-compatible server of one's own."""
    return _provider("local", name, config, capabilities)


def _provider(kind: str, name: str, config: OpenAIConfig, capabilities: Capabilities) -> Provider:
    wire = ChatCompletionsWire(config, streams=capabilities.streams, streams_tool_calls=capabilities.streams_tool_calls)
    return Provider(
        name=name,
        kind=kind,
        model=config.model,
        wire=wire,
        render=partial(render_chat, name=name),
        classify=partial(classify, where=config.where),
        raises=LIBRARY_ERRORS,
        capabilities=capabilities,
        probe=partial(_probe, wire, config),
    )


# --- our transcript as messages -------------------------------------------------------------------------------------


def render_chat(request: ModelRequest, name: str = "") -> JsonObject:
    """`{messages, tools}` of a request; what the wire adds is the model and how to stream."""
    history = taking_turns(entries(request.messages, name, plain=request.plain))
    system = {"role": "system", "content": system_text(request)}
    payload: JsonObject = {"messages": [system, *(message for entry in history for message in _messages(entry))]}
    if request.tools:
        payload["tools"] = [render_tool(spec) for spec in request.tools]
    return payload


def render_tool(spec: ToolSpec) -> JsonObject:
    """A tool as these models are told of it."""
    function = {"name": spec.name, "description": spec.description, "parameters": spec.parameters}
    return {"type": "function", "function": function}


def _messages(entry: Entry) -> Sequence[JsonObject]:
    """The assistant's message, and one for each result; or the person's."""
    if isinstance(entry, Said):
        return ({"role": "user", "content": entry.text},)
    if not entry.calls:
        return ({"role": "assistant", "content": entry.text},) if entry.text else ()
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": orjson.dumps(call.args).decode()},
        }
        for call in entry.calls
    ]
    return (
        {"role": "assistant", "content": entry.text or None, "tool_calls": calls},
        *({"role": "tool", "tool_call_id": call.id, "content": result_text(call.result)} for call in entry.calls),
    )


# --- is it there at all ---------------------------------------------------------------------------------------------


async def _probe(wire: ChatCompletionsWire, config: OpenAIConfig) -> Probe:
    """Ask the server for its models: is it reachable, does it take the key, does it know the model?"""
    where = config.where
    try:
        models = await wire.models()
    except LIBRARY_ERRORS as error:
        cause, fix = unusable(error, config.base_url, where, has_key=bool(config.api_key))
        if where.url in fix:
            fix += " It includes the version, for example http://127.0.0.1:11434/v1."
        return Probe(False, cause, fix)
    if models and config.model not in models and f"{config.model}:latest" not in models:
        return Probe(
            False, f"{config.base_url} does not know the model {config.model!r}", _choices(models, where.model)
        )
    return Probe(True, f"{config.base_url} knows {config.model}")


def _choices(models: Iterable[str], key: str) -> str:
    names = sorted(models)
    return f"Set {key} to one of: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}."
