"""Any LangChain chat model: breadth for what has no kind of its own, at LangChain's price.

The class is imported by its name and made once, when the provider is. It does not retry; what fails is decided about
in `agent.routing.failover`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import SecretStr, ValidationError

from agent.errors import ModelError
from agent.providers.base import Capabilities, ModelRequest, Probe, Provider, Where
from agent.providers.history import Entry, Said, Step, entries, taking_turns, told
from agent.providers.http import HttpFault, StreamBroken, advice
from agent.providers.langchain_errors import Secrets, classify
from agent.providers.langchain_wire import LangChainFault, LangChainWire
from agent.providers.openai import render_tool
from agent.providers.prompt import result_text, system_text
from agent.routing.config import ModelsError
from agent.transcript import JsonObject

LANGCHAIN = Capabilities()
_SECRET = ("key", "secret", "token", "password", "credential")


@dataclass(frozen=True, slots=True, kw_only=True)
class LangChainConfig:
    """`factory` is `package.module:Class`, `arguments` its keyword arguments; they win over what is set here.

    `secrets` are those among their values that no error may show, besides the ones whose name tells.
    """

    factory: str
    model: str
    arguments: JsonObject = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    options: JsonObject = field(default_factory=dict)  # keyword arguments of each call
    idle_timeout_s: float = 60.0  # `timeout` of classes that have one
    threads: int = 32  # calls at once, of classes without async code
    where: Where = field(default_factory=Where)


def langchain(config: LangChainConfig, name: str = "langchain", capabilities: Capabilities = LANGCHAIN) -> Provider:
    """The model of a class; `ModelsError` when it cannot be imported or made, with what to do."""
    kind = _import(config.factory, f"providers.{name}.factory")
    named = (str(value) for key, value in config.arguments.items() if _is_secret(key, value))
    given = frozenset(filter(None, (*config.secrets, *named)))
    model = _make(kind, config, f"providers.{name}.arguments", capabilities, Secrets(given))
    # The class may have read further ones from the environment.
    held = (value.get_secret_value() for value in vars(model).values() if isinstance(value, SecretStr))
    understand = partial(classify, where=config.where, secrets=Secrets(given.union(filter(None, held))))
    wire = LangChainWire(model, options=config.options, threads=config.threads)
    return Provider(
        name=name,
        kind="langchain",
        model=config.model,
        wire=wire,
        render=partial(render_langchain, name=name, takes_tools=capabilities.tools),
        classify=understand,
        raises=(LangChainFault, StreamBroken, HttpFault),
        capabilities=capabilities,
        probe=partial(_probe, wire, config, understand),
    )


# --- the model ------------------------------------------------------------------------------------------------------


def _import(factory: str, path: str) -> type[BaseChatModel]:
    module, _, name = factory.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        fix = f"pip install {package.replace('_', '-')}"
        raise ModelsError([(path, f"{module} cannot be imported, {error.name} is missing; {fix}")]) from error
    except ImportError as error:
        raise ModelsError([(path, f"{module} cannot be imported: {error}")]) from error
    if not (isinstance(found, type) and issubclass(found, BaseChatModel)):
        raise ModelsError([(path, f"{factory} is no chat model class of LangChain; give `package.module:Class`")])
    return found


def _make(
    kind: type[BaseChatModel],
    config: LangChainConfig,
    path: str,
    capabilities: Capabilities,
    secrets: Secrets,
) -> BaseChatModel:
    streams: bool | str = not capabilities.streams or (False if capabilities.streams_tool_calls else "tool_calling")
    ours = {
        "model": config.model,
        "max_retries": 0,
        "timeout": ceil(config.idle_timeout_s),  # some take whole seconds only
        "stream_usage": True,
        # Said in so many words: classes that do not know a model's name would rather not stream.
        "disable_streaming": streams,
    }
    arguments = {**dict(_taken(kind, ours, config.arguments)), **config.arguments}
    try:
        return kind(**arguments)
    except ValidationError as error:
        # The values are left out, for one of them may be a key.
        problems = [(".".join([path, *map(str, e["loc"])]), secrets.cut_from(e["msg"])) for e in error.errors()]
        raise ModelsError(problems) from None
    except Exception as error:  # noqa: BLE001 (a class of others raises anything, and what it says may hold a key)
        said = secrets.cut_from(f"{kind.__name__} cannot be made with them: {error}")
        raise ModelsError([(path, said)]) from None


def _taken(kind: type[BaseChatModel], ours: JsonObject, given: JsonObject) -> Iterator[tuple[str, Any]]:
    """Those of our arguments that the class has and that are not given, under either of a field's names."""
    for name, known in kind.model_fields.items():
        names = {name, known.alias} - {None}
        if not names & given.keys():
            yield from ((each, ours[each]) for each in names & ours.keys() if each)


def _is_secret(name: str, value: Any) -> bool:
    return isinstance(value, str) and len(value) > 3 and any(part in name.lower() for part in _SECRET)


# --- our transcript as messages -------------------------------------------------------------------------------------


def render_langchain(request: ModelRequest, name: str = "", *, takes_tools: bool = True) -> JsonObject:
    """`{messages, tools}` of a request: LangChain's messages, and tools in the form that every class converts.

    Where no tools are offered, calls are told as text: some providers refuse them then.
    """
    history = entries(request.messages, name, plain=request.plain)
    tools = [render_tool(spec) for spec in request.tools] if takes_tools else []
    if not tools:
        history = [entry if isinstance(entry, Said) else Step(told(entry)) for entry in history]
    messages: list[BaseMessage] = [SystemMessage(system_text(request))]
    messages += [message for entry in taking_turns(history) for message in _messages(entry)]
    return {"messages": messages, "tools": tools}


def _messages(entry: Entry) -> Sequence[BaseMessage]:
    """The assistant's message, and one for each result; or the person's."""
    if isinstance(entry, Said):
        return (HumanMessage(entry.text),)
    if not entry.calls:
        return (AIMessage(entry.text),) if entry.text else ()
    calls: list[Any] = [
        {"type": "tool_call", "id": call.id, "name": call.name, "args": call.args} for call in entry.calls
    ]
    results = (
        ToolMessage(
            result_text(call.result), tool_call_id=call.id, name=call.name, status="success" if call.ok else "error"
        )
        for call in entry.calls
    )
    return (AIMessage(entry.text, tool_calls=calls), *results)


# --- is it there at all ---------------------------------------------------------------------------------------------


async def _probe(wire: LangChainWire, config: LangChainConfig, understand: Any) -> Probe:
    """Say a word to the model, and go at its first one: there is no other question that all classes can answer."""
    stream = wire.stream({"messages": [HumanMessage("Hello.")], "tools": []}, deadline_s=config.idle_timeout_s)
    try:
        await anext(stream)
    except (LangChainFault, StreamBroken) as error:
        meant: ModelError = understand(error)
        return Probe(False, f"{config.factory}: {meant}", advice(meant, config.where))
    finally:
        await stream.aclose()  # type: ignore[attr-defined]
    return Probe(True, f"{config.factory} answers as {config.model}")
