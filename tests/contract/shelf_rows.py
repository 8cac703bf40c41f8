"""The same shelf behind every executor: what each of them needs, and in what they may differ."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from backend.lambdas.functions import Function
from tests.doubles import shelf, shelf_http
from tests.doubles.shelf_actions import ACTIONS, function_details, openapi, schema_of
from tests.doubles.shelf_client import ShelfClient
from tests.doubles.world import World
from tests.integration.lambda_service import running
from tests.ports import free_port, wait_until_listening
from tools.breaker import Breaker
from tools.contract import Executor, Identity, JsonObject, ToolContext, ToolResult
from tools.executors.client import ByConversation, ClientTransport
from tools.executors.config import ClientGroup, HttpGroup, LambdaGroup, McpGroup
from tools.executors.http import HttpTransport
from tools.executors.lambda_function import ForeignLambda, OwnLambda
from tools.executors.lambda_wire import LambdaWire
from tools.executors.mcp import McpTransport
from tools.executors.mounted import ForeignTool, Mounted, MountedTool, Transport
from tools.executors.shares import Shared
from tools.in_process import InProcess

ROOT = Path(__file__).parents[2]
DOUBLES = ROOT / "tests" / "doubles"
WORKERS = 3  # of each function; a service on this machine has no more
TOOLS: JsonObject = {
    "look": {"effect": "read"},
    "echo": {"effect": "read"},
    "put": {"effect": "gated"},
    "stow": {"effect": "gated", "idempotent": True},
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What an executor is configured with."""

    timeout_s: float = 20.0
    failures: int = 100
    reset_s: float = 10.0


Make = Callable[[Limits], Executor]


# --- services that rows share ---------------------------------------------------------------------------------------


@dataclass
class Services:
    """Servers that are started when they are first asked for, and run until the end."""

    folder: Path
    _stack: ExitStack = field(default_factory=ExitStack)

    def close(self) -> None:
        """Stop them all."""
        self._stack.close()

    @cached_property
    def functions(self) -> str:
        """The Lambda service's address."""
        environment = {shelf.STORE: os.environ[shelf.STORE]}
        handlers = [f"shelf_functions.{name}" for name in ("by_function", "by_operation", "mirror")]
        handlers.append("shelf_group.handler")
        functions = [Function(each.partition(".")[2], DOUBLES, each, environment) for each in handlers]
        return self._stack.enter_context(running(functions, concurrency=WORKERS, stop_grace_s=0.1)).url

    @cached_property
    def http(self) -> str:
        """The HTTP API's address."""
        return self._stack.enter_context(shelf_http.serving())

    @contextmanager
    def mcp_over_http(self, tools: list[JsonObject]) -> Any:
        """The MCP server's address."""
        port = free_port()
        command = (*self.mcp_command(tools), str(port))
        process = subprocess.Popen(command, env={**os.environ, **mcp_environment()})
        try:
            wait_until_listening(process, port)
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            process.kill()
            process.wait()

    def mcp_command(self, tools: list[JsonObject]) -> tuple[str, ...]:
        """Starts the MCP server over stdio."""
        return sys.executable, str(DOUBLES / "shelf_mcp.py"), str(self.written("tools.json", tools))

    def written(self, name: str, content: Any) -> Path:
        """A file with this content."""
        path = self.folder / f"{uuid4().hex}-{name}"
        path.write_text(json.dumps(content))
        return path


def mcp_environment() -> dict[str, str]:
    """What an MCP server of ours needs of the environment."""
    return {shelf.STORE: os.environ[shelf.STORE], "PYTHONPATH": str(ROOT)}


# --- the rows -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def in_process(_: Services) -> AsyncIterator[Make]:
    """Actions of ours, here."""
    yield lambda _: InProcess(ACTIONS)


@asynccontextmanager
async def own_lambda(services: Services) -> AsyncIterator[Make]:
    """Actions of ours, in a function."""
    async with wired(services, "handler") as wire:
        yield lambda limits: _own(wire, limits)


@asynccontextmanager
async def shared(services: Services) -> AsyncIterator[Make]:
    """Half of the conversations here, half of them in a function."""
    async with wired(services, "handler") as wire:
        yield lambda limits: Shared("shelf", InProcess(ACTIONS), _own(wire, limits), 50.0)


def _own(wire: LambdaWire, limits: Limits) -> OwnLambda:
    return OwnLambda("shelf", ACTIONS, wire, _breaker(limits), timeout_s=limits.timeout_s)


@asynccontextmanager
async def by_function(services: Services) -> AsyncIterator[Make]:
    """A function that somebody wrote, with function details."""
    path = services.written("functions.json", function_details())
    async with wired(services, "by_function") as wire, mounted(ForeignLambda("shelf", wire, functions=path)) as make:
        yield lambda limits: make(LambdaGroup, limits, {"executor": "lambda", "function": "f", "functions": path})


@asynccontextmanager
async def by_operation(services: Services) -> AsyncIterator[Make]:
    """A function that somebody wrote, with an OpenAPI document."""
    path = services.written("openapi.json", openapi())
    async with wired(services, "by_operation") as wire, mounted(ForeignLambda("shelf", wire, openapi=path)) as make:
        yield lambda limits: make(LambdaGroup, limits, {"executor": "lambda", "function": "f", "openapi": path})


@asynccontextmanager
async def http(services: Services) -> AsyncIterator[Make]:
    """Operations of an API."""
    path = services.written("openapi.json", openapi(services.http))
    given = {"executor": "http", "openapi": path, "hosts": [services.http.removeprefix("http://")]}
    async with mounted(HttpTransport("shelf", HttpGroup.model_validate(given), path, None)) as make:
        yield lambda limits: make(HttpGroup, limits, given)


@asynccontextmanager
async def mcp_stdio(services: Services) -> AsyncIterator[Make]:
    """An MCP server that is started here."""
    given = {
        "executor": "mcp",
        "stdio": {"command": services.mcp_command(shelf_tools()), "environment": mcp_environment()},
    }
    async with mounted(McpTransport("shelf", McpGroup.model_validate(given))) as make:
        yield lambda limits: make(McpGroup, limits, given)


@asynccontextmanager
async def mcp_http(services: Services) -> AsyncIterator[Make]:
    """An MCP server at an address."""
    with services.mcp_over_http(shelf_tools()) as url:
        given = {"executor": "mcp", "url": url}
        async with mounted(McpTransport("shelf", McpGroup.model_validate(given))) as make:
            yield lambda limits: make(McpGroup, limits, given)


@asynccontextmanager
async def client(services: Services) -> AsyncIterator[Make]:
    """The client of the conversation."""
    path = services.written("functions.json", openapi())
    given = {"executor": "client", "openapi": path}

    def make(limits: Limits) -> Executor:
        config = ClientGroup.model_validate({**given, **_configured(limits)})
        breakers = ByConversation("shelf", limits.failures, limits.reset_s)
        return Mounted("shelf", config, ClientTransport("shelf", config, openapi=path), breakers, name="client")

    yield make


@asynccontextmanager
async def wired(services: Services, function: str) -> AsyncIterator[LambdaWire]:
    """An open wire to a function whose workers have all started: what is no event of its fails there."""
    wire = LambdaWire(function, endpoint_url=services.functions)
    await wire.open()
    await asyncio.gather(*(wire.invoke(b"{}") for _ in range(WORKERS)))
    yield wire
    await wire.close()


def shelf_tools() -> list[JsonObject]:
    """The shelf for an MCP server."""
    return [
        {"name": each.name, "description": each.spec.description, "parameters": schema_of(each)} for each in ACTIONS
    ]


class Opened:
    """A transport that is open already, for one more executor."""

    def __init__(self, transport: Transport, found: Sequence[ForeignTool]) -> None:
        self._transport, self._found = transport, found

    async def open(self) -> Sequence[ForeignTool]:
        """What was found."""
        return self._found

    async def close(self) -> None:
        """Others use it."""

    async def send(self, tool: MountedTool, args: JsonObject, ctx: ToolContext) -> ToolResult:
        """As it does."""
        return await self._transport.send(tool, args, ctx)


@asynccontextmanager
async def mounted(transport: Transport) -> AsyncIterator[Callable[[Any, Limits, JsonObject], Executor]]:
    """Makes executors over one open transport."""
    opened = Opened(transport, await transport.open())

    def make(kind: Any, limits: Limits, given: JsonObject) -> Executor:
        config = kind.model_validate({**given, **_configured(limits)})
        return Mounted("shelf", config, opened, _breaker(limits), name=config.executor)

    yield make
    await transport.close()


def _configured(limits: Limits) -> JsonObject:
    return {"timeout_s": limits.timeout_s, "tools": TOOLS}


def _breaker(limits: Limits) -> Breaker:
    return Breaker("shelf", fail_max=limits.failures, reset_s=limits.reset_s)


@dataclass(frozen=True, slots=True)
class Row:
    """An executor. The flags are all that its users may notice; `docs/executors.md` tells them."""

    open: Callable[[Services], Any]
    elsewhere: bool = True  # has a time limit, a breaker and a bound of its own, and a crash there is a result here
    finds: bool = True  # a keyed effect whose answer was lost is found
    asks_again: bool = False  # any effect may be asked for again under its key; silence is not retryable
    goes_on: bool = True  # a call that was given up is carried out all the same
    trial: bool | None = None  # of a group that is moved: which of the two serves
    at_once: int = 50
    lacks: tuple[str, ...] = ()  # parameters that its documents cannot describe


HERE: JsonObject = {"elsewhere": False, "finds": False}
ROWS = {
    "in_process": Row(in_process, **HERE),
    "lambda": Row(own_lambda, at_once=WORKERS),
    "shared-usual": Row(shared, trial=False, **HERE),
    "shared-trial": Row(shared, trial=True, at_once=WORKERS),
    "lambda-functions": Row(by_function, at_once=WORKERS, lacks=("size", "either")),
    "lambda-openapi": Row(by_operation, at_once=WORKERS),
    "http": Row(http),
    "mcp-stdio": Row(mcp_stdio, goes_on=False),
    "mcp-http": Row(mcp_http, goes_on=False),
    "client": Row(client, finds=False, asks_again=True, goes_on=False),
}
ELSEWHERE = [name for name, row in ROWS.items() if row.elsewhere]
HERE_ROWS = [name for name, row in ROWS.items() if not row.elsewhere]


@dataclass
class Bench:
    """One row, ready; makes as many executors as a test wants."""

    row: Row
    make: Make


@dataclass
class Harness:
    """One test's customer, and the shelf behind it."""

    bench: Bench
    customer_id: str = field(default_factory=lambda: f"c{uuid4().hex}")
    client: ShelfClient = field(default_factory=ShelfClient)

    @property
    def row(self) -> Row:
        """What is under test."""
        return self.bench.row

    @property
    def shelf(self) -> shelf.Shelf:
        """What really happened."""
        return shelf.Shelf(self.customer_id)

    @cached_property
    def conversation_id(self) -> str:
        """One that the executor in question serves."""
        ids: Iterable[str] = (str(uuid4()) for _ in range(1000))
        if self.row.trial is None:
            return next(iter(ids))
        both = Shared(
            "shelf", InProcess(()), OwnLambda("shelf", (), LambdaWire("ours"), Breaker("x"), timeout_s=1), 50.0
        )
        return next(each for each in ids if (both.chosen(each).name == "lambda") is self.row.trial)

    async def executor(self, **limits: Any) -> Executor:
        """A new one, with a breaker of its own."""
        made = self.bench.make(Limits(**limits))
        if isinstance(made, Mounted):
            await made.open()
        return made

    def context(self, **more: Any) -> ToolContext:
        """Of a new call by this customer."""
        identity = Identity("customer", self.customer_id, "B2C", "20OC01BK", ("20OC01BK",))
        given = {"conversation_id": self.conversation_id, "call_key": uuid4().hex, "client": self.client, **more}
        return replace(World().context(), identity=identity, settle_seconds=0.2, write_seconds=0.1, **given)
