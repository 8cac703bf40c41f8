"""Tools that the client of a conversation runs: what it is asked, and what its silence means."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.doubles.world import CUSTOMER, World
from tools.breaker import Breaker
from tools.contract import InvalidArguments, Prepared, ToolContext, ToolResult
from tools.errors import UnknownOutcome
from tools.executors.client import ByConversation, ClientTransport
from tools.executors.config import ClientGroup, ExecutorError
from tools.executors.mounted import Mounted

FUNCTIONS = [
    {"name": "getPosition", "description": "Where the device is.", "parameters": {}},
    {
        "name": "openDoor",
        "description": "Open a door.",
        "parameters": {
            "door": {"type": "string", "description": "Its name.", "required": True},
            "customer_id": {"type": "string", "description": "Whose it is.", "required": True},
        },
        "requireConfirmation": "ENABLED",
    },
]
TOOLS = {"getPosition": {"effect": "read", "name": "get_position"}}


@dataclass
class Client:
    """Answers with `answer`; None: not at all."""

    answer: dict[str, Any] | None = None
    asked: list[tuple[str, dict[str, Any], str, float]] = field(default_factory=list)

    async def ask(self, tool: str, args: dict[str, Any], key: str, wait_s: float) -> dict[str, Any] | None:
        """As the port says."""
        self.asked.append((tool, args, key, wait_s))
        return self.answer


@pytest.fixture
async def executor(tmp_path: Path) -> Mounted:
    path = tmp_path / "functions.json"
    path.write_bytes(orjson.dumps(FUNCTIONS))
    config = ClientGroup.model_validate({"executor": "client", "functions": path, "timeout_s": 10, "tools": TOOLS})
    breakers = ByConversation("device", 2, 60.0)
    mounted = Mounted("device", config, ClientTransport("device", config, functions=path), breakers, name="client")
    await mounted.open()
    return mounted


def context(client: Client | None, **more: Any) -> ToolContext:
    given = {"conversation_id": "c1", "call_key": "k1", **more}
    return replace(World().context(), identity=CUSTOMER, client=client, **given)


async def read(executor: Mounted, ctx: ToolContext) -> ToolResult:
    return await executor.execute(await executor.prepare("get_position", {}, ctx), ctx)


async def write(executor: Mounted, ctx: ToolContext) -> ToolResult:
    ctx = replace(ctx, effect_key="e1")
    return await executor.execute(await executor.prepare("openDoor", {"door": "north"}, ctx), ctx)


async def test_the_client_is_asked_and_its_result_is_the_result(executor: Mounted) -> None:
    """By the name the model knows, with session values filled in, under the key of the call or of the effect."""
    client = Client({"latitude": 1.5})
    assert (await read(executor, context(client))).data == {"ok": True, "latitude": 1.5}
    assert (await write(executor, context(client))).status == "ok"
    assert client.asked == [
        ("get_position", {}, "k1", 9.0),
        ("openDoor", {"door": "north", "customer_id": "7000101"}, "e1", 9.0),
    ]
    specs = {each.spec.name: each.spec for each in executor.offered()}
    assert all(spec.by_client for spec in specs.values())
    assert specs["openDoor"].effect == "gated"


async def test_a_client_that_could_not_is_an_error_with_its_own_words(executor: Mounted) -> None:
    """`user_hint` is for people and bounded; what it is called is ours to say."""
    said = {"ok": False, "user_hint": "No signal." + "x" * 600, "code": "internal", "battery": 3}
    result = await write(executor, context(Client(said)))
    assert (result.status, result.data["code"], result.data["battery"]) == ("error", "action_failed", 3)
    assert len(result.data["user_hint"]) == 500
    nothing = await read(executor, context(Client({"ok": False, "user_hint": 5})))
    assert nothing.data["user_hint"] == "Your device could not do that."


async def test_silence_is_no_answer_for_a_read_and_unknown_for_an_effect(executor: Mounted) -> None:
    """A door may have been opened all the same."""
    silent = Client()
    assert (await read(executor, context(silent))).data["code"] == "unanswered"
    assert (await write(executor, context(silent, conversation_id="c2"))).status == "unknown"
    assert len(silent.asked) == 2


async def test_an_effect_is_looked_for_by_asking_again_under_its_key(executor: Mounted) -> None:
    """A client is asked once whatever happens, so that a second question brings the first answer."""
    ctx = context(Client({"opened": True}), effect_key="e1")
    found = await executor.reconcile("openDoor", {"door": "north", "customer_id": "7000101"}, ctx)
    assert found is not None
    assert found.data == {"ok": True, "opened": True}
    with pytest.raises(UnknownOutcome):
        await executor.reconcile(
            "openDoor", {"door": "north", "customer_id": "7000101"}, replace(ctx, client=Client(), conversation_id="c3")
        )


async def test_nobody_there_is_told_at_once(executor: Mounted) -> None:
    """Where a conversation has no client that could be asked, nothing was done."""
    assert (await write(executor, context(None))).data["code"] == "upstream_unavailable"
    late = context(Client({}), deadline=0.0)
    assert (await read(executor, late)).data["code"] == "upstream_unavailable"


async def test_one_silent_client_does_not_switch_off_the_others(executor: Mounted) -> None:
    """The breaker is that of the conversation."""
    silent, other = Client(), Client({"latitude": 1.5})
    for _ in range(3):
        await read(executor, context(silent))
    assert len(silent.asked) == 2
    assert (await read(executor, context(other, conversation_id="c2"))).status == "ok"


def test_breakers_of_the_conversations_that_called_longest_ago_are_forgotten() -> None:
    """No more than so many are kept."""
    breakers = ByConversation("device", 5, 10.0, most=2)
    one = breakers(context(None, conversation_id="1"))
    two = breakers(context(None, conversation_id="2"))
    assert breakers(context(None, conversation_id="1")) is one
    breakers(context(None, conversation_id="3"))
    assert breakers(context(None, conversation_id="1")) is one
    assert breakers(context(None, conversation_id="2")) is not two


async def test_an_answer_has_bounds(executor: Mounted) -> None:
    """A large one is not shown; one of an effect leaves open what happened."""
    large = Client({"log": "x" * 70_000})
    assert (await read(executor, context(large))).data["code"] == "result_too_large"
    assert (await write(executor, context(large))).status == "unknown"


async def test_values_of_the_session_are_never_taken(executor: Mounted) -> None:
    """Neither from a model nor from a stored call of somebody else; the client is not asked."""
    client = Client({})
    with pytest.raises(InvalidArguments):
        await executor.prepare("openDoor", {"door": "north", "customer_id": "7000102"}, context(client))
    prepared = await executor.prepare("openDoor", {"door": "north"}, context(client))
    strangers = Prepared(prepared.spec, {**prepared.args, "customer_id": "7000102"})
    assert (await executor.execute(strangers, context(client))).data["code"] == "invalid_arguments"
    assert client.asked == []


async def test_tools_may_stand_in_an_openapi_document(tmp_path: Path) -> None:
    """What the client can do, as operations; a document that describes nothing names itself."""
    path = tmp_path / "device.json"
    operation = {"operationId": "ring", "summary": "Ring.", "responses": {"200": {"description": "Rang."}}}
    info = {"title": "Device", "version": "1"}
    path.write_bytes(orjson.dumps({"openapi": "3.0.3", "info": info, "paths": {"/ring": {"post": operation}}}))
    config = ClientGroup.model_validate({"executor": "client", "openapi": path})
    transport = ClientTransport("device", config, openapi=path)
    mounted = Mounted("device", config, transport, Breaker("device"), name="client")
    await mounted.open()
    assert [each.spec.name for each in mounted.offered()] == ["ring"]
    path.write_text("{}")
    with pytest.raises(ExecutorError, match=r"device\.json"):
        await mounted.open()
