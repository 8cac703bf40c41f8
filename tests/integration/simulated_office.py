"""The real tools on the real simulator, in one process: callers by persona, faults, and what upstream saw."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import httpx
import orjson

from backend.embedded.pf360_simulator.app import App, ConnectionDropped, create_app
from tests.unit.pf360_calls import Pf360 as Upstream
from tests.unit.pf360_calls import config, token
from tools.breaker import Breaker
from tools.catalogue import ACTIONS
from tools.contract import (
    Directory,
    Executor,
    Identity,
    JsonObject,
    Location,
    Prepared,
    ToolContext,
    ToolError,
    ToolResult,
    ToolState,
)
from tools.executors.lambda_function import OwnLambda
from tools.executors.lambda_wire import Invoked
from tools.in_process import InProcess
from tools.lambda_handler import context_of, respond
from tools.pf360.client import Pf360, Retries, TestMode, Timeouts
from tools.toolbox import GroupedToolbox, in_one

TOOLBOX = in_one(InProcess(ACTIONS))
FUNCTION_GROUPS = ("scheduling", "information", "notes", "coordinator")
BASE_URL = "http://pf360"
SETTLE_S = 0.4


class CuttingTransport(httpx.ASGITransport):
    """An in-process transport with what a socket has: read timeouts, and connections that break."""

    def __init__(self, app: App) -> None:
        super().__init__(app=app)
        self.sent: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request.url.path)
        try:
            async with asyncio.timeout(request.extensions["timeout"]["read"]):
                return await super().handle_async_request(request)
        except TimeoutError as late:
            raise httpx.ReadTimeout("too late", request=request) from late
        except ConnectionDropped as cut:
            raise httpx.RemoteProtocolError("cut", request=request) from cut


class SimulatorClock:
    """The product's clock, following the simulator's."""

    def __init__(self, app: App) -> None:
        self._app = app

    def now(self) -> datetime:
        return self._app.sim.clock.now()


class Callbacks:
    """Callback requests by effect key."""

    def __init__(self) -> None:
        self.recorded: dict[str, tuple[str, str]] = {}

    async def record(self, reason: str, summary: str, effect_key: str) -> str:
        self.recorded.setdefault(effect_key, (reason, summary))
        return f"callback-{len(self.recorded)}"


class Caller:
    """One persona with a conversation of its own: calls tools as the runtime does."""

    def __init__(self, ctx: ToolContext, toolbox: GroupedToolbox = TOOLBOX) -> None:
        self.ctx = ctx
        self.toolbox = toolbox

    async def prepare(self, name: str, **args: Any) -> Prepared:
        return await self.toolbox.prepare(name, args, self.ctx)

    async def execute(self, prepared: Prepared, key: str = "effect-1") -> ToolResult:
        return await self.toolbox.execute(prepared, replace(self.ctx, effect_key=key))

    async def call(self, name: str, key: str = "effect-1", **args: Any) -> JsonObject:
        """Prepare and execute; the result as a model sees it, also of a refusal."""
        return (await self.outcome(name, key, **args)).data

    async def outcome(self, name: str, key: str = "effect-1", **args: Any) -> ToolResult:
        try:
            prepared = await self.prepare(name, **args)
        except ToolError as refusal:
            return refusal.result()
        return await self.execute(prepared, key)

    async def reconcile(self, prepared: Prepared) -> ToolResult | None:
        return await self.toolbox.reconcile(prepared.spec.name, prepared.args, self.ctx)

    def forget(self) -> None:
        """Lose the working state, as with a flushed session store."""
        self.ctx.state.values.clear()


class HandlerWire:
    """Calls a handler of ours as Lambda does, JSON in and out, but in this process and on the office's own sockets."""

    def __init__(self, office: Office, test_mode: TestMode) -> None:
        self._office = office
        self._test_mode = test_mode

    async def open(self) -> None:
        """Nothing to find out."""

    async def close(self) -> None:
        """Nothing to give back."""

    async def invoke(self, payload: bytes, limit: int) -> Invoked:
        event = orjson.loads(payload)
        ctx = context_of(event, {}, self._office.directory(), self._office.http)
        token = event["sessionAttributes"].get("authorization", "").removeprefix("Bearer ")

        async def token_source() -> str:
            return str(token)

        pf360 = self._office.client(token_source, self._test_mode)
        response = await respond(event, ACTIONS, replace(ctx, pf360=pf360, settle_seconds=SETTLE_S))
        return Invoked(orjson.dumps(response))


def in_functions(office: Office, test_mode: TestMode) -> GroupedToolbox:
    """The groups that have a function, each in its own; the others in this process."""
    local = InProcess([each for each in ACTIONS if each.spec.group not in FUNCTION_GROUPS])
    executors: dict[str, Executor] = {each.spec.group: local for each in local.offered()}
    for group in FUNCTION_GROUPS:
        wire: Any = HandlerWire(office, test_mode)
        executors[group] = OwnLambda(group, ACTIONS, wire, Breaker(group, fail_max=100), timeout_s=30.0)
    ordered = dict.fromkeys(each.spec.group for each in ACTIONS)
    return GroupedToolbox({group: executors[group] for group in ordered})


class Office:
    """A simulator with a frozen clock, its admin, and callers; in this process unless it listens at a port."""

    def __init__(self, port: int | None = None, executor: str = "in_process") -> None:
        self.executor = executor
        self.app = create_app(config())
        self.transport = CuttingTransport(self.app)
        self.base_url = f"http://127.0.0.1:{port}" if port else BASE_URL
        self.http = httpx.AsyncClient(transport=None if port else self.transport, base_url=self.base_url)
        self.upstream = Upstream(self.http, token())
        self.fixture = self.app.sim.seed
        self.callbacks = Callbacks()
        self.breaker = Breaker("pf360", fail_max=100)

    def caller(self, persona: str, test_mode: TestMode | None = None) -> Caller:
        who = self.fixture["personas"][persona]
        clients = tuple(who.get("available_clients") or filter(None, [who.get("client_id")]))
        bearer = token(who.get("customer_id"), clients, role=who["role"])

        async def token_source() -> str:
            return bearer

        identity = Identity(
            role=who["role"],
            customer_id=who.get("customer_id"),
            customer_type=who.get("customer_type"),
            client_id=who.get("client_id"),
            clients=clients,
            user_id=who.get("user_id"),
        )
        mode = test_mode or TestMode()
        ctx = ToolContext(
            identity=identity,
            directory=self.directory(),
            clock=SimulatorClock(self.app),
            state=ToolState(),
            pf360=self.client(token_source, mode),
            callbacks=self.callbacks,
            settle_seconds=SETTLE_S,
        )
        return Caller(ctx, TOOLBOX if self.executor == "in_process" else in_functions(self, mode))

    def client(self, token_source: Callable[[], Awaitable[str]], test_mode: TestMode) -> Pf360:
        return Pf360(
            self.base_url,
            self.http,
            token_source,
            timeouts=Timeouts(0.2, 0.2, 0.2),
            retries=Retries((0.01, 0.02)),
            breaker=self.breaker,
            test_mode=test_mode,
        )

    def directory(self) -> Directory:
        cities = {row["client_id"]: row["address"]["city"] for row in self.fixture["projects"]}
        locations = {
            row["client_id"]: Location(
                row["client_id"],
                row["client_name"],
                row["label"],
                cities.get(row["client_id"], ""),
                row["support_number"],
                self.fixture["timezone"],
                **row.get("office", {}),
            )
            for row in self.fixture["clients"]
        }
        hours = {day: tuple(span) if span else None for day, span in self.fixture["default_hours"].items()}
        return Directory(locations, self.fixture["portal_url_template"], "dev", hours)

    def requests(self, *endpoints: str) -> list[JsonObject]:
        """What upstream was asked, in order."""
        return [entry for entry in self.app.sim.log if not endpoints or entry["endpoint"] in endpoints]

    def commits(self) -> list[str]:
        """Kinds of the changes that upstream made for API callers."""
        return [entry["kind"] for entry in self.app.sim.state.commits if entry["source"] == "api"]
