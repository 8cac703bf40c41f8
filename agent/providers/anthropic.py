"""Models of Anthropic, through its Messages API."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from agent.providers.anthropic_wire import AnthropicConfig, MessagesWire
from agent.providers.base import Capabilities, ModelRequest, Probe, Provider
from agent.providers.history import NO_TEXT, Entry, Said, Step, entries, taking_turns
from agent.providers.http import LIBRARY_ERRORS, HttpFault, classify, unusable
from agent.providers.prompt import facts_text, instructions, result_text
from agent.transcript import JsonObject
from tools.contract import ToolSpec

__all__ = ["ANTHROPIC", "AnthropicConfig", "anthropic", "render_messages"]

ANTHROPIC = Capabilities(reasoning=True, prompt_caching=True, max_context_tokens=200_000)
_CACHED: JsonObject = {"cache_control": {"type": "ephemeral"}}


def anthropic(config: AnthropicConfig, name: str = "anthropic", capabilities: Capabilities = ANTHROPIC) -> Provider:
    """A model of Anthropic's API, or of a server that speaks it."""
    wire = MessagesWire(
        config,
        max_tokens=capabilities.max_output_tokens,
        streams=capabilities.streams,
        streams_tool_calls=capabilities.streams_tool_calls,
        parallel_tool_calls=capabilities.parallel_tool_calls,
    )
    thinking = config.options.get("thinking")
    return Provider(
        name=name,
        kind="anthropic",
        model=config.model,
        wire=wire,
        render=partial(
            render_messages,
            name=name,
            model=config.model,
            caches=capabilities.prompt_caching,
            takes_tools=capabilities.tools,
            thinks=isinstance(thinking, dict) and thinking.get("type") == "enabled",
        ),
        classify=partial(classify, where=config.where),
        raises=LIBRARY_ERRORS,
        capabilities=capabilities,
        probe=partial(_probe, wire, config),
    )


# --- our transcript as messages -------------------------------------------------------------------------------------


def render_messages(
    request: ModelRequest,
    name: str = "",
    model: str = "",
    *,
    caches: bool = False,
    thinks: bool = False,
    takes_tools: bool = True,
) -> JsonObject:
    """`{system, messages, tools}` of a request.

    Args:
        request: What is asked.
        name: Whose private state goes back, if it is of the present turn and of this `model`.
        model: The model's id.
        caches: Mark the instructions and the tools, which are the same in every turn, for the provider's cache.
        thinks: The model is told to think; that is called off where its last calls lack the thoughts before them.
        takes_tools: Whether it is offered any.
    """
    history = taking_turns(entries(request.messages, name, plain=request.plain))
    messages = _messages(history, model)
    payload: JsonObject = {"system": _system(request, caches), "messages": messages}
    tools = [_tool(spec) for spec in request.tools] if takes_tools else []
    if not tools and (names := _called(history)):
        # A history with calls is refused without tools; these cannot be called.
        tools = [{"name": each, "input_schema": {"type": "object"}} for each in names]
        payload["tool_choice"] = {"type": "none"}
    if tools:
        if caches:
            tools[-1] |= _CACHED
        payload["tools"] = tools
    if thinks and _lacks_thoughts(messages):
        payload["thinking"] = {"type": "disabled"}
    return payload


def _system(request: ModelRequest, caches: bool) -> list[JsonObject]:
    known = {"type": "text", "text": facts_text(request.facts)}
    if not (text := instructions(request)):
        return [known]
    return [{"type": "text", "text": text, **(_CACHED if caches else {})}, known]


def _tool(spec: ToolSpec) -> JsonObject:
    return {"name": spec.name, "description": spec.description, "input_schema": {"type": "object", **spec.parameters}}


def _messages(history: Sequence[Entry], model: str) -> list[JsonObject]:
    """Person and assistant in turn, the person first and last; results are the person's, before what they say."""
    messages: list[JsonObject] = []
    turn = max((n for n, entry in enumerate(history) if isinstance(entry, Said)), default=-1)
    for position, entry in enumerate(history):
        if isinstance(entry, Said):
            _add(messages, "user", [{"type": "text", "text": entry.text}])
            continue
        blocks = [*_thoughts(entry, model)] if position > turn and entry.calls else []
        if entry.text:
            blocks.append({"type": "text", "text": entry.text})
        blocks += [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.args} for c in entry.calls]
        if not blocks:
            continue
        if not messages:
            _add(messages, "user", [{"type": "text", "text": NO_TEXT}])
        _add(messages, "assistant", blocks)
        if entry.calls:
            _add(messages, "user", [_result(call.id, call.result, call.ok) for call in entry.calls])
    if not messages or messages[-1]["role"] == "assistant":
        _add(messages, "user", [{"type": "text", "text": NO_TEXT}])
    return messages


def _add(messages: list[JsonObject], role: str, blocks: list[JsonObject]) -> None:
    if messages and messages[-1]["role"] == role:
        messages[-1]["content"] += blocks
    else:
        messages.append({"role": role, "content": blocks})


def _thoughts(step: Step, model: str) -> Sequence[JsonObject]:
    if step.state is None or step.state.get("model") != model:
        return ()
    blocks = step.state.get("blocks")
    return blocks if isinstance(blocks, list) else ()


def _result(call_id: str, result: JsonObject, ok: bool) -> JsonObject:
    block = {"type": "tool_result", "tool_use_id": call_id, "content": result_text(result)}
    return block if ok else {**block, "is_error": True}


def _called(history: Sequence[Entry]) -> list[str]:
    names = (call.name for entry in history if isinstance(entry, Step) for call in entry.calls)
    return list(dict.fromkeys(names))


def _lacks_thoughts(messages: Sequence[JsonObject]) -> bool:
    """Whether the assistant's last message calls tools and does not begin with a thought."""
    last = next((message for message in reversed(messages) if message["role"] == "assistant"), None)
    kinds = [block["type"] for block in last["content"]] if last else []
    return "tool_use" in kinds and kinds[0] not in ("thinking", "redacted_thinking")


# --- is it there at all ---------------------------------------------------------------------------------------------


async def _probe(wire: MessagesWire, config: AnthropicConfig) -> Probe:
    """Is the server reachable, does it take the key, does it know the model, if only by another name?"""
    where = config.where
    try:
        names = await wire.models()
        if config.model not in names and not await _stands_for_one(wire):
            shown = f"{', '.join(names[:8])}{' …' if len(names) > 8 else ''}"
            cause = f"{config.server} does not know the model {config.model!r}"
            return Probe(False, cause, f"Set {where.model} to one of: {shown}.")
    except LIBRARY_ERRORS as error:
        return Probe(False, *unusable(error, config.server, where, has_key=bool(config.api_key)))
    return Probe(True, f"{config.server} knows {config.model}")


async def _stands_for_one(wire: MessagesWire) -> bool:
    try:
        return bool(await wire.model())
    except HttpFault as fault:
        if fault.status in (400, 404):
            return False
        raise
