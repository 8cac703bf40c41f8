"""The handlers in `lambda/` as Bedrock calls them: real events in both styles, over real sockets to the simulator."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from backend.embedded.pf360_simulator.server import Server, listen
from backend.lambdas.functions import groups
from tests.integration.simulated_office import Office
from tests.unit.pf360_calls import token
from tools.action import action
from tools.contract import JsonObject, ToolContext
from tools.lambda_events import MAX_RESPONSE_BYTES, BadEvent, Operation, Session, event_for, read_response
from tools.lambda_handler import attributes_of, respond

ROOT = Path(__file__).parents[2]
NAMES = groups()
C1 = {"customer_id": "7000101", "client_id": "20OC01BK", "customer_type": "B2C"}


def serve_of(group: str) -> Callable[[JsonObject], Awaitable[JsonObject]]:
    """The coroutine of a handler; `handler` itself runs it in an event loop of its own."""
    path = ROOT / "lambda" / group / "handler.py"
    spec = importlib.util.spec_from_file_location(f"handler_of_{group}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast(Callable[[JsonObject], Awaitable[JsonObject]], module.serve)


@dataclass
class Function:
    """One handler, and the simulator behind it."""

    group: str
    office: Office

    async def call(
        self, name: str, args: JsonObject, attributes: JsonObject | None = None, *, openapi: bool = False
    ) -> JsonObject:
        """The body of the answer to one event of Bedrock."""
        return cast(JsonObject, read_response(await self.raw(name, args, attributes, openapi=openapi)).body)

    async def raw(
        self, name: str, args: JsonObject, attributes: JsonObject | None = None, *, openapi: bool = False
    ) -> JsonObject:
        operation = Operation(self.group, path=f"/{name.replace('_', '-')}") if openapi else Operation(self.group, name)
        given = C1 if attributes is None else attributes
        bearer = token(given.get("customer_id"), ("20OC01BK",), role=given.get("role", "customer"))
        session = Session("s-1", "hello", {**given, "authorization": f"Bearer {bearer}"}, {"current_time": self.now})
        schema = {
            "properties": {key: {} if isinstance(value, list) else {"type": "string"} for key, value in args.items()}
        }
        return await serve_of(self.group)(event_for(operation, args, schema, session))

    @property
    def now(self) -> str:
        return self.office.app.sim.clock.now().isoformat()


@asynccontextmanager
async def function(group: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> AsyncIterator[Function]:
    listener = listen(0)
    office = Office(port=listener.getsockname()[1])
    server = Server(office.app)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    (folder / "directory.json").write_text(json.dumps(office.directory().to_json()))
    monkeypatch.setenv("DIRECTORY_JSON", str(folder / "directory.json"))
    monkeypatch.setenv("PF360_API_URL", office.base_url)
    monkeypatch.setenv("PF360_SETTLE_SECONDS", "0.5")
    yield Function(group, office)
    assert await office.upstream.broken() == {}
    await office.http.aclose()
    server.stop()
    await serving


@pytest.fixture
async def scheduling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Function]:
    async with function("scheduling", monkeypatch, tmp_path) as found:
        yield found


@pytest.mark.parametrize("openapi", [False, True], ids=["function", "openapi"])
async def test_a_group_answers_in_the_style_of_the_event(scheduling: Function, openapi: bool) -> None:
    """Typed arguments arrive as text, the caller comes from session attributes, the answer has the event's names."""
    answer = await scheduling.raw("list_projects", {"include_finished": "true"}, openapi=openapi)
    listed = read_response(answer).body
    assert (listed["ok"], listed["count"]) == (True, 5)
    inner = answer["response"]
    assert inner["actionGroup"] == "scheduling"
    assert inner["apiPath" if openapi else "function"] == ("/list-projects" if openapi else "list_projects")
    assert answer["sessionAttributes"]["customer_id"] == "7000101"


async def test_a_whole_booking_goes_through_it(scheduling: Function) -> None:
    """Bedrock has had its yes; order numbers are resolved, slots are checked, and there is one booking only."""
    slot = {"project_id": "SO-26-1001", "date": "2026-03-16", "time": "10:00"}
    assert (await scheduling.call("confirm_appointment", slot, openapi=True))["ok"]
    again = await scheduling.raw("confirm_appointment", slot, openapi=True)
    assert read_response(again).body["code"] == "already_scheduled"
    assert again["response"]["httpStatusCode"] == 400
    assert scheduling.office.commits() == ["schedule"]


@pytest.mark.parametrize(
    ("args", "attributes", "code"),
    [
        ({"customer_id": "7000102"}, None, "invalid_arguments"),
        ({"customer_id": "7000101"}, {}, "invalid_arguments"),
        ({}, {}, "unknown_tool"),
        ({"colour": "red"}, None, "invalid_arguments"),
        ({}, {"role": "coordinator", "client_id": "20OC01BK"}, "unknown_tool"),
        ({"client_id": "20OC02LM"}, None, "ambiguous"),
    ],
    ids=["another customer", "nobody with an id", "nobody", "unknown argument", "wrong role", "another location"],
)
async def test_who_asks_is_never_taken_from_arguments(
    scheduling: Function, args: JsonObject, attributes: JsonObject | None, code: str
) -> None:
    """A refusal before any upstream call."""
    assert (await scheduling.call("list_projects", args, attributes))["code"] == code
    assert scheduling.office.requests() == []


async def test_the_customers_own_id_as_an_argument_does_no_harm(scheduling: Function) -> None:
    """Older schemas have it."""
    assert (await scheduling.call("list_projects", {"customer_id": "7000101", "request_id": "x"}))["ok"]


async def test_working_state_travels_in_the_session(scheduling: Function) -> None:
    """The list shown last is known to the next call, which may run in another container."""
    first = await scheduling.raw("list_projects", {})
    kept = {**C1, "tool_state": first["sessionAttributes"]["tool_state"]}
    dates = await scheduling.call("get_available_dates", {"project_id": "1"}, kept)
    assert dates["project"]["order_number"] == "SO-26-1001_1"


async def test_the_coordinators_group_is_for_coordinators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A list of ids arrives as JSON text or with commas."""
    async with function("coordinator", monkeypatch, tmp_path) as coordinator:
        who = {"role": "coordinator", "user_id": "K-01", "client_id": "20OC01BK"}
        found = await coordinator.call("validate_projects", {"project_ids": "500101, 500104"}, who)
        assert found["total_projects"] == 2
        assert (await coordinator.call("validate_projects", {"project_ids": "500101"}))["code"] == "unknown_tool"


@pytest.mark.parametrize("group", NAMES)
async def test_what_is_no_event_of_its_group_fails_loudly(
    group: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Lambda counts it as an error of the function."""
    async with function(group, monkeypatch, tmp_path) as found:
        with pytest.raises(BadEvent, match="has no action launch_rocket"):
            await found.raw("launch_rocket", {})


@action(group="big", effect="read")
async def read_much(ctx: ToolContext) -> JsonObject:
    """Read too much."""
    ctx.state.values["projects"] = {"x": "y" * 30_000}
    return {"rows": ["x" * 100] * 300}


@action(group="big", effect="read")
async def read_some(ctx: ToolContext) -> JsonObject:
    """Read what fits, and keep more than fits beside it."""
    ctx.state.values["projects"] = {"x": "y" * 20_000}
    return {"rows": ["x" * 100] * 100}


@action(group="big", effect="write")
async def write_much(ctx: ToolContext) -> JsonObject:
    """Write, and say too much about it."""
    return {"rows": ["x" * 100] * 300}


@pytest.mark.parametrize("step", [None, "execute"])
@pytest.mark.parametrize(
    ("name", "ok", "code"),
    [("read_much", False, "result_too_large"), ("read_some", True, None), ("write_much", True, "result_too_large")],
)
async def test_no_answer_is_larger_than_bedrock_takes(name: str, ok: bool, code: str | None, step: str | None) -> None:
    """A read is refused, a write is not said to have failed; working state gives way first."""
    ctx = Office().caller("c1").ctx
    prompt = {"outcrop_operation": step} if step else {}
    event = event_for(Operation("big", name), {}, {}, Session("s", "", attributes_of(ctx), prompt))
    response = await respond(event, [read_much, read_some, write_much], ctx)
    assert len(json.dumps(response).encode()) <= MAX_RESPONSE_BYTES + 500
    body = read_response(response).body
    data = body["data"] if step else body
    assert (data["ok"], data.get("code")) == (ok, code)


@pytest.mark.parametrize("group", NAMES)
def test_a_handler_loads_little(group: str) -> None:
    """No SDK, no executor, no agent: what is deployed is small and starts quickly."""
    code = (
        "import importlib.util, sys; s = importlib.util.spec_from_file_location('h', sys.argv[1]);"
        "m = importlib.util.module_from_spec(s); s.loader.exec_module(m);"
        "print(sorted(n for n in sys.modules if n.split('.')[0] in "
        "('boto3', 'botocore', 'mcp', 'aiohttp', 'jsonschema', 'yaml', 'agent', 'backend', 'fastapi') "
        "or n.startswith('tools.executors')))"
    )
    path = ROOT / "lambda" / group / "handler.py"
    ran = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.stdout.strip(), ran.stderr) == ("[]", "")
