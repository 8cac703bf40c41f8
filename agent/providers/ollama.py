"""Models of an Ollama server, through its own API: it says what a model can do and takes the size of its context."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from agent.providers.base import Capabilities, ModelRequest, Probe, Provider
from agent.providers.history import Entry, Said, entries, taking_turns
from agent.providers.http import LIBRARY_ERRORS, classify, unusable
from agent.providers.ollama_wire import OllamaConfig, OllamaWire
from agent.providers.openai import render_tool
from agent.providers.prompt import result_text, system_text
from agent.transcript import JsonObject

__all__ = ["OLLAMA", "OllamaConfig", "ollama", "render_ollama"]

# The context is memory of the machine that serves, so it is moderate unless configured.
OLLAMA = Capabilities(reasoning=True, max_context_tokens=16_384)


def ollama(config: OllamaConfig, name: str = "ollama", capabilities: Capabilities = OLLAMA) -> Provider:
    """A model that an Ollama server runs."""
    able = capabilities
    limit = able.max_output_tokens if able.max_output_tokens != OLLAMA.max_output_tokens else None
    wire = OllamaWire(
        config,
        context_tokens=able.max_context_tokens,
        streams=able.streams,
        streams_tool_calls=able.streams_tool_calls,
        keeps_thoughts=able.reasoning,
        limit=limit,
    )
    return Provider(
        name=name,
        kind="ollama",
        model=config.model,
        wire=wire,
        render=partial(render_ollama, name=name, model=config.model, takes_tools=able.tools),
        classify=partial(classify, where=config.where),
        raises=LIBRARY_ERRORS,
        capabilities=able,
        probe=partial(_probe, wire, config, able),
    )


# --- our transcript as messages -------------------------------------------------------------------------------------


def render_ollama(request: ModelRequest, name: str = "", model: str = "", *, takes_tools: bool = True) -> JsonObject:
    """`{messages, tools}` of a request. Results follow their calls in order, for there are no ids."""
    history = taking_turns(entries(request.messages, name, plain=request.plain))
    turn = max((n for n, entry in enumerate(history) if isinstance(entry, Said)), default=-1)
    messages: list[JsonObject] = [{"role": "system", "content": system_text(request)}]
    for position, entry in enumerate(history):
        messages += _messages(entry, model if position > turn else None)
    payload: JsonObject = {"messages": messages}
    if request.tools and takes_tools:
        payload["tools"] = [render_tool(spec) for spec in request.tools]
    return payload


def _messages(entry: Entry, thinker: str | None) -> Iterator[JsonObject]:
    """The assistant's message with its thoughts, if `thinker` had them, and one for each result; or the person's."""
    if isinstance(entry, Said):
        yield {"role": "user", "content": entry.text}
        return
    if not entry.calls and not entry.text:
        return
    message: JsonObject = {"role": "assistant", "content": entry.text}
    if entry.state and entry.state.get("model") == thinker and entry.state.get("thinking"):
        message["thinking"] = entry.state["thinking"]
    if entry.calls:
        message["tool_calls"] = [{"function": {"name": call.name, "arguments": call.args}} for call in entry.calls]
    yield message
    for call in entry.calls:
        yield {"role": "tool", "tool_name": call.name, "content": result_text(call.result)}


# --- is it there at all ---------------------------------------------------------------------------------------------


async def _probe(wire: OllamaWire, config: OllamaConfig, able: Capabilities) -> Probe:
    """Is the server reachable, is the model there, can it call tools, does it read as much as is configured?"""
    where, model = config.where, config.model
    try:
        names = await wire.models()
        full = next((each for each in (model, f"{model}:latest") if each in names), None)
        if full is None:
            return Probe(
                False, f"{config.server} does not have the model {model!r}", _get_it(model, names, where.model)
            )
        known = await wire.show(full)
    except LIBRARY_ERRORS as error:
        return Probe(False, *unusable(error, config.server, where, has_key=bool(config.api_key)))
    skills = known.get("capabilities")
    if able.tools and isinstance(skills, list) and "tools" not in skills:
        fix = f"Set {where.model} to a model with tools, or say in its capabilities that it has none."
        return Probe(False, f"{model} cannot call tools", fix)
    longest = _longest(known.get("model_info"))
    if longest and longest < able.max_context_tokens:
        cause = f"{config.server} has {model}, which reads {longest} tokens, not {able.max_context_tokens}"
        return Probe(True, cause, f"Set max_context_tokens in its capabilities to {longest}.")
    return Probe(True, f"{config.server} has {model}")


def _get_it(model: str, names: list[str], key: str) -> str:
    fix = f"Run: ollama pull {model}"
    if names:
        shown = sorted(names)
        fix += f". Or set {key} to one of: {', '.join(shown[:8])}{' …' if len(shown) > 8 else ''}"
    return fix + "."


def _longest(info: Any) -> int | None:
    """How many tokens the model was made to read."""
    if not isinstance(info, dict):
        return None
    return next((v for k, v in info.items() if k.endswith(".context_length") and isinstance(v, int)), None)
