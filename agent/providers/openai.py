"""Models behind Chat Completions: `openai` itself, and `local` servers of one's own (vLLM, llama.cpp, LM Studio)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import orjson

from agent.providers.base import Capabilities, ModelRequest, Probe, Provider
from agent.providers.history import Entry, Said, Step, entries, taking_turns
from agent.providers.http import LIBRARY_ERRORS, classify, unusable
from agent.providers.openai_wire import THOUGHTS, ChatCompletionsWire, OpenAIConfig
from agent.providers.prompt import result_text, system_text
from agent.transcript import JsonObject
from tools.contract import ToolSpec

__all__ = ["LOCAL", "OPENAI", "OpenAIConfig", "local", "openai", "render_chat", "render_tool"]

OPENAI = Capabilities(prompt_caching=True)
# A server of one's own is assumed to know less.
LOCAL = Capabilities(parallel_tool_calls=False, reports_usage=False, max_context_tokens=32_000)


def openai(config: OpenAIConfig, name: str = "openai", capabilities: Capabilities = OPENAI) -> Provider:
    """OpenAI, or whatever is fully compatible with it."""
    limit = {"max_completion_tokens": capabilities.max_output_tokens}
    return _provider("openai", name, config, capabilities, limit if _limits(capabilities, OPENAI) else None)


def local(config: OpenAIConfig, name: str = "local", capabilities: Capabilities = LOCAL) -> Provider:
    """An OpenAI-compatible server of one's own."""
    limit = {"max_tokens": capabilities.max_output_tokens}
    return _provider("local", name, config, capabilities, limit if _limits(capabilities, LOCAL) else None)


def _limits(capabilities: Capabilities, usual: Capabilities) -> bool:
    """Whether somebody set how long an answer may be; else the server's own limit holds."""
    return capabilities.max_output_tokens != usual.max_output_tokens


def _provider(
    kind: str, name: str, config: OpenAIConfig, capabilities: Capabilities, limit: JsonObject | None
) -> Provider:
    wire = ChatCompletionsWire(
        config,
        streams=capabilities.streams,
        streams_tool_calls=capabilities.streams_tool_calls,
        parallel_tool_calls=capabilities.parallel_tool_calls,
        keeps_thoughts=capabilities.reasoning,
        limit=limit,
    )
    return Provider(
        name=name,
        kind=kind,
        model=config.model,
        wire=wire,
        render=partial(render_chat, name=name, model=config.model, able=capabilities),
        classify=partial(classify, where=config.where),
        raises=LIBRARY_ERRORS,
        capabilities=capabilities,
        probe=partial(_probe, wire, config),
    )


# --- our transcript as messages -------------------------------------------------------------------------------------


def render_chat(
    request: ModelRequest, name: str = "", model: str = "", able: Capabilities = Capabilities()
) -> JsonObject:
    """`{messages, tools}` of a request; what the wire adds is the model and how to stream.

    Thoughts of the present turn go back beside the calls they led to, to the model that had them. Where a model cannot
    make several calls at once (some templates refuse to show it any), they are told as one after the other.
    """
    history = taking_turns(entries(request.messages, name, plain=request.plain))
    if not able.parallel_tool_calls:
        history = [each for entry in history for each in _one_by_one(entry)]
    turn = max((n for n, entry in enumerate(history) if isinstance(entry, Said)), default=-1)
    messages: list[JsonObject] = [{"role": "system", "content": system_text(request)}]
    for position, entry in enumerate(history):
        messages += _messages(entry, model if position > turn else None)
    payload: JsonObject = {"messages": messages}
    if request.tools and able.tools:
        payload["tools"] = [render_tool(spec) for spec in request.tools]
    return payload


def render_tool(spec: ToolSpec) -> JsonObject:
    """A tool as these models are told of it."""
    function = {"name": spec.name, "description": spec.description, "parameters": spec.parameters}
    return {"type": "function", "function": function}


def _one_by_one(entry: Entry) -> Sequence[Entry]:
    if isinstance(entry, Said) or len(entry.calls) < 2:
        return (entry,)
    first, *others = entry.calls
    return (Step(entry.text, (first,), entry.state), *(Step("", (call,)) for call in others))


def _messages(entry: Entry, thinker: str | None) -> Sequence[JsonObject]:
    """The assistant's message with its thoughts, if `thinker` had them, and one for each result; or the person's."""
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
    message = {"role": "assistant", "content": entry.text or None, "tool_calls": calls}
    if entry.state and entry.state.get("model") == thinker:
        message |= {name: entry.state[name] for name in THOUGHTS if name in entry.state}
    return (
        message,
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
