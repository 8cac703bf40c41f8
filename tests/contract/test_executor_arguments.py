"""Calls of many shapes over every executor's real wire: what arrives there is what was given."""

from __future__ import annotations

import asyncio
import inspect
import json
import keyword
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, cast

import orjson
import pytest
from pydantic import WithJsonSchema

from tests.contract.shelf_rows import Opened, Services, mcp_environment, wired
from tests.contract.test_executors import same
from tests.contract.tool_cases import Case, cases
from tests.doubles.world import World
from tools.action import Action, action
from tools.breaker import Breaker
from tools.contract import Directory, Executor, JsonObject, ToolContext
from tools.executors.client import ClientTransport
from tools.executors.config import ClientGroup, HttpGroup, LambdaGroup, McpGroup
from tools.executors.http import HttpTransport
from tools.executors.lambda_function import ForeignLambda, OwnLambda
from tools.executors.lambda_wire import Invoked, LambdaWire
from tools.executors.mcp import McpTransport
from tools.executors.mounted import Mounted, Transport
from tools.in_process import InProcess
from tools.lambda_handler import context_of, respond
from tools.values import bedrock_type, types_of

CASES = list(cases())
AT_ONCE = 3

# What a call's result says that arrived, as arguments of the case.
Received = Callable[[Case, JsonObject], JsonObject]


@dataclass
class Wire:
    """An executor over a wire; how arguments are written for it, and read where they arrive."""

    executor: Executor
    received: Received
    given: Callable[[Case], JsonObject] = lambda case: case.arguments
    names: dict[str, Mapping[str, str]] = field(default_factory=dict)  # by case: argument -> name in the document

    async def carry(self, case: Case) -> JsonObject:
        """What arrives of a case."""
        renamed = {name: argument for argument, name in self.names.get(case.name, {}).items()}
        args = {renamed.get(name, name): value for name, value in self.given(case).items()}
        ctx = context()
        result = await self.executor.execute(await self.executor.prepare(case.name, args, ctx), ctx)
        assert result.status == "ok", (case, result)
        return self.received(case, result.data)


def context() -> ToolContext:
    return replace(World().context(), client=Mirror(), conversation_id="c")


# --- the wires ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def http(services: Services) -> AsyncIterator[Wire]:
    """The body of a POST."""
    path = services.written("cases.json", document(services.http))
    config = group(HttpGroup, executor="http", openapi=path, hosts=[services.http.removeprefix("http://")])
    async with mounted(config, HttpTransport("cases", config, path, None)) as (executor, names):
        yield Wire(executor, lambda _, data: json.loads(data["received"] or "{}"), names=names)


@asynccontextmanager
async def lambda_openapi(services: Services) -> AsyncIterator[Wire]:
    """The request body of an event."""
    path = services.written("cases.json", document())
    config = group(LambdaGroup, executor="lambda", function="mirror", openapi=path)
    async with (
        wired(services, "mirror") as wire,
        mounted(config, ForeignLambda("cases", wire, openapi=path)) as (executor, names),
    ):
        yield Wire(executor, from_event, names=names)


@asynccontextmanager
async def lambda_functions(services: Services) -> AsyncIterator[Wire]:
    """The parameters of an event. What function details have no type for is a text of JSON."""
    path = services.written("cases.json", {"functions": [function(case) for case in CASES]})
    config = group(LambdaGroup, executor="lambda", function="mirror", functions=path)
    async with (
        wired(services, "mirror") as wire,
        mounted(config, ForeignLambda("cases", wire, functions=path)) as (executor, names),
    ):
        yield Wire(executor, from_event, as_function_details, names)


@asynccontextmanager
async def mcp_stdio(services: Services) -> AsyncIterator[Wire]:
    """The arguments of a call over standard streams."""
    program = {"command": services.mcp_command(listed()), "environment": mcp_environment()}
    config = group(McpGroup, executor="mcp", stdio=program)
    async with mounted(config, McpTransport("cases", config)) as (executor, names):
        yield Wire(executor, lambda _, data: data["received"], names=names)


@asynccontextmanager
async def mcp_http(services: Services) -> AsyncIterator[Wire]:
    """The arguments of a call over HTTP."""
    with services.mcp_over_http(listed()) as url:
        config = group(McpGroup, executor="mcp", url=url)
        async with mounted(config, McpTransport("cases", config)) as (executor, names):
            yield Wire(executor, lambda _, data: data["received"], names=names)


@asynccontextmanager
async def client(services: Services) -> AsyncIterator[Wire]:
    """What the client is asked, by the names that the model knows."""
    path = services.written("cases.json", document())
    config = group(ClientGroup, executor="client", openapi=path)
    async with mounted(config, ClientTransport("cases", config, openapi=path)) as (executor, names):
        yield Wire(executor, lambda case, data: back(case, names, data["received"]), names=names)


@asynccontextmanager
async def in_process(_: Services) -> AsyncIterator[Wire]:
    """The parameters of a function."""
    yield Wire(InProcess(actions()), lambda _, data: data["received"])


@asynccontextmanager
async def own_lambda(_: Services) -> AsyncIterator[Wire]:
    """The parameters of a function that an event reaches."""
    found = actions()
    wire = cast(LambdaWire, Direct(found))
    yield Wire(OwnLambda("cases", found, wire, Breaker("cases"), timeout_s=20), lambda _, data: data["received"])


WIRES: dict[str, Callable[[Services], Any]] = {
    each.__name__: each
    for each in (in_process, own_lambda, lambda_functions, lambda_openapi, http, mcp_stdio, mcp_http, client)
}


@pytest.mark.parametrize("wire", WIRES)
async def test_every_call_arrives_as_it_was_given(services: Services, wire: str) -> None:
    """Three hundred tools of all kinds of parameters."""
    room = asyncio.Semaphore(AT_ONCE)
    async with WIRES[wire](services) as open_wire:

        async def check(case: Case) -> None:
            async with room:
                arrived = await open_wire.carry(case)
            assert same(arrived, case.arguments), (case, arrived)

        known = {each.spec.name for each in open_wire.executor.offered()}
        carried = [case for case in CASES if case.name in known]
        assert len(carried) > 200
        await asyncio.gather(*map(check, carried))


# --- how a case is described, and how it is read --------------------------------------------------------------------


def group(kind: Any, **given: Any) -> Any:
    return kind.model_validate({**given, "default_effect": "read"})


@asynccontextmanager
async def mounted(config: Any, transport: Transport) -> AsyncIterator[tuple[Executor, dict[str, Mapping[str, str]]]]:
    """The executor, and what each argument is called in the document."""
    found = await transport.open()
    executor = Mounted("cases", config, Opened(transport, found), Breaker("cases"), name=config.executor)
    await executor.open()
    yield executor, {each.name: each.route.names for each in found if each.route is not None}
    await transport.close()


def document(server: str = "") -> JsonObject:
    """All cases as operations with a body."""
    paths = {f"/mirror/{case.name}": {"post": operation(case)} for case in CASES}
    servers = [{"url": server}] if server else []
    return {"openapi": "3.1.0", "info": {"title": "Cases", "version": "1"}, "servers": servers, "paths": paths}


def operation(case: Case) -> JsonObject:
    body = {"content": {"application/json": {"schema": case.parameters}}}
    return {
        "operationId": case.name,
        "description": case.description,
        "requestBody": body,
        "responses": {"200": {"description": "Done."}},
    }


def listed() -> list[JsonObject]:
    return [{"name": case.name, "description": case.description, "parameters": case.parameters} for case in CASES]


def function(case: Case) -> JsonObject:
    parameters = {
        name: {"type": function_type(schema), "required": name in case.parameters["required"]}
        for name, schema in case.parameters["properties"].items()
    }
    return {"name": case.name, "description": case.description, "parameters": parameters}


def function_type(schema: JsonObject) -> str:
    kind = bedrock_type(schema, {})
    return "string" if kind == "object" else kind


def as_function_details(case: Case) -> JsonObject:
    """As a model writes them by function details."""
    return {
        name: json.dumps(value) if function_type(schema) == "string" and not plain_text(schema) else value
        for name, value in case.arguments.items()
        for schema in [case.parameters["properties"][name]]
    }


def plain_text(schema: JsonObject) -> bool:
    return types_of(schema, {}) == frozenset({"string"})


def from_event(case: Case, data: JsonObject) -> JsonObject:
    """By the schema: plain text stands as it is, all else as JSON; a text only if it could mean something else."""
    received = {each["name"]: each["value"] for each in data["received"]}
    return {name: read(case.parameters["properties"][name], text) for name, text in received.items()}


def read(schema: JsonObject, text: str) -> Any:
    if plain_text(schema):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    types = types_of(schema, {})
    return text if value is None and types is not None and "null" not in types else value


def back(case: Case, names: Mapping[str, Mapping[str, str]], args: JsonObject) -> JsonObject:
    return {names[case.name].get(name, name): value for name, value in args.items()}


# --- clients and actions --------------------------------------------------------------------------------------------


class Mirror:
    """A client that says what it was asked."""

    async def ask(self, tool: str, args: JsonObject, key: str, wait_s: float) -> JsonObject:
        """As the port says."""
        return {"received": args}


class Direct:
    """A wire to the handler of our functions, as bytes."""

    def __init__(self, found: tuple[Action, ...]) -> None:
        self._actions = found

    async def invoke(self, payload: bytes, limit: int) -> Invoked:
        """As Lambda does it."""
        event = json.loads(payload)
        ctx = context_of(event, {}, Directory({}), cast(Any, None))
        return Invoked(orjson.dumps(await respond(event, self._actions, ctx)))


def actions() -> tuple[Action, ...]:
    """The cases whose parameters may be those of a Python function."""
    return tuple(made(case) for case in CASES if all(map(usable, case.parameters["properties"])))


def usable(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and name != "ctx"


def made(case: Case) -> Action:
    async def run(*, ctx: ToolContext, **given: Any) -> JsonObject:
        return {"received": {name: value for name, value in given.items() if name in case.arguments}}

    hints = {name: Annotated[Any, WithJsonSchema(schema)] for name, schema in case.parameters["properties"].items()}
    required = case.parameters["required"]
    parameters = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=inspect.Parameter.empty if name in required else None
        )
        for name in hints
    ]
    own: Any = run
    own.__name__ = case.name
    own.__annotations__ = {**hints, "ctx": ToolContext}
    own.__signature__ = inspect.Signature([*parameters, inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY)])
    own.__doc__ = f"{case.description}\n\nArgs:\n" + "".join(f"    {name}: Some value.\n" for name in hints)
    return action(group="cases", effect="read")(cast(Callable[..., Awaitable[JsonObject]], own))
