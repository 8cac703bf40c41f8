"""The whole service with groups elsewhere: ours in functions, one on trial, and one that somebody else wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pydantic import SecretStr

from agent.definition import DEFINITIONS
from backend.cli.parity import written
from backend.records.database import Database
from backend.records.parity import parity
from backend.settings import Settings
from tests.doubles.model_server import call_answer, model_server, text_answer
from tests.integration.outside_simulator import ADMIN_SECRET, JWT_SECRET, OutsideSimulator
from tests.integration.running_server import serving
from tests.integration.running_server import settings as complete

HANDLERS = Path(__file__).parents[2] / "lambda"
# A function as people wrote them for Bedrock Agents: it routes by name, and keeps its orders in a file.
FOREIGN = """
import json, os

def lambda_handler(event, context):
    given = {each["name"]: each["value"] for each in event["parameters"]}
    if event["function"] == "orderPart":
        with open(os.environ["ORDERS"], "a") as orders:
            orders.write(json.dumps([event["sessionAttributes"]["customer_id"], given]) + chr(10))
        body = {"order": "P-7"}
    else:
        raise RuntimeError("database password is hunter2")
    return {"messageVersion": "1.0", "response": {"actionGroup": event["actionGroup"], "function": event["function"],
            "functionResponse": {"responseBody": {"TEXT": {"body": json.dumps(body)}}}}}
"""
FUNCTIONS = {
    "functions": [
        {
            "name": "orderPart",
            "description": "Order a spare part.",
            "parameters": {
                "part": {"type": "string", "description": "Which.", "required": True},
                "count": {"type": "integer", "description": "How many.", "required": True},
            },
        },
        {"name": "findParts", "description": "Find spare parts."},
    ]
}


@pytest.fixture
def simulator() -> Iterator[OutsideSimulator]:
    with OutsideSimulator() as running:
        yield running
        assert running.broken() == {}


@pytest.fixture
def configured(database_url: str, redis_url: str, simulator: OutsideSimulator, tmp_path: Path) -> Settings:
    """The shipped agent in a folder of its own, without any group elsewhere yet."""
    shutil.copytree(DEFINITIONS / "scheduling", tmp_path / "agent")
    return complete(
        database_url,
        redis_url,
        agent_dir=tmp_path / "agent",
        outcrop_data_dir=tmp_path,
        pf360_api_url=simulator.url,
        pf360_admin_url=simulator.url,
        pf360_admin_secret=SecretStr(ADMIN_SECRET),
        pf360_jwt_secret=SecretStr(JWT_SECRET),
        pf360_clock="fixture",
        turn_lease_seconds=10.0,
    )


def put_groups(configured: Settings, **groups: Any) -> None:
    (configured.agent_dir / "action_groups.yaml").write_text(yaml.safe_dump(groups))


def in_function(group: str) -> dict[str, Any]:
    return {"executor": "lambda", "function": f"{HANDLERS / group / 'handler.py'}:handler", "timeout_s": 30}


async def say(client: httpx.AsyncClient, text: str, session: str | None = None) -> dict[str, Any]:
    answer = await client.post("/api/v1/chat", json={"message": text} | ({"session_id": session} if session else {}))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_visit_is_booked_moved_and_cancelled_through_functions(
    configured: Settings, simulator: OutsideSimulator
) -> None:
    """Nobody who talks to it can tell: the same questions, the same answers, each change once."""
    put_groups(configured, scheduling=in_function("scheduling"), notes=in_function("notes"))
    async with serving(configured, None) as client:
        client.timeout = httpx.Timeout(60.0)
        asked = await say(client, "book my flooring on monday at 10")
        assert "Monday, March 16 at 10:00 AM" in asked["text"]
        session = asked["session_id"]
        assert "It's booked" in (await say(client, "yes", session))["text"]
        await say(client, "move it to thursday march 19 at 8", session)
        assert "has been moved" in (await say(client, "yes", session))["text"]
        await say(client, "add a note to my flooring: the gate code is 4711", session)
        await say(client, "cancel it", session)
        assert "cancelled" in (await say(client, "yes", session))["text"]
    assert simulator.changes() == [
        "schedule", "cancel_reschedule", "schedule", "add_note", "cancel",
    ]  # fmt: skip


async def test_a_group_on_trial_has_a_parity_report(configured: Settings, database_url: str) -> None:
    """Every conversation stays with one of the two; reads that are compared are the same."""
    trial = {"percent": 50, "compare": ["get_working_hours"], "to": in_function("information")}
    put_groups(configured, information={"executor": "in_process", "trial": trial})
    async with serving(configured, None) as client:
        client.timeout = httpx.Timeout(60.0)
        for _ in range(8):
            asked = await say(client, "when are you open?")
            again = await say(client, "when are you open on friday?", asked["session_id"])
            assert "open" in again["text"]
    db = Database(database_url)
    await db.open()
    found = await parity(db, configured.tenant, 1)
    await db.close()
    calls = {row["executor"]: (row["calls"], row["ok"]) for row in found.runs}
    assert sum(count for count, _ in calls.values()) == sum(ok for _, ok in calls.values()) >= 8
    assert set(calls) <= {"in_process", "lambda"}
    (compared,) = found.comparisons
    # On a busy machine the other of the two may answer too late to be compared, which is no difference.
    assert compared["same"] >= 8
    assert {each["path"] for each in found.differences} <= {"late"}
    assert "100.0 %" in written(found, 1)
    assert "No group has had two executors" in written(type(found)(), 24)


async def test_somebody_elses_function_needs_a_yes_and_runs_once(configured: Settings, tmp_path: Path) -> None:
    """Restated in the words of its own document; a crash in it is told without a word of what it said."""
    (tmp_path / "parts.py").write_text(FOREIGN)
    (configured.agent_dir / "parts.json").write_text(json.dumps(FUNCTIONS))
    orders = tmp_path / "orders"
    group = {
        "executor": "lambda", "function": f"{tmp_path / 'parts.py'}:lambda_handler", "functions": "parts.json",
        "environment": {"ORDERS": str(orders)}, "tools": {"findParts": {"effect": "read"}},
    }  # fmt: skip
    put_groups(configured, parts=group)
    script = (
        call_answer(("orderPart", {"part": "hinge", "count": "2"})),
        text_answer("The part has been ordered."),
        call_answer(("findParts", {})),
        text_answer("Sorry, that does not work right now."),
    )
    async with model_server(*script) as model:
        with_model = configured.model_copy(
            update={"llm_provider": "local", "llm_api_url": model.url, "llm_model": "model-1"}
        )
        async with serving(with_model, None) as client:
            client.timeout = httpx.Timeout(60.0)
            asked = await say(client, "I need two hinges")
            assert asked["text"] == 'Order a spare part: part "hinge"; count 2. Shall I do that?'
            assert not orders.exists()
            done = await say(client, "yes", asked["session_id"])
            assert done["text"] == "The part has been ordered."
            failed = await say(client, "what else is there?", asked["session_id"])
    assert [json.loads(line) for line in orders.read_text().splitlines()] == [
        ["7000101", {"part": "hinge", "count": "2"}]
    ]
    shown = json.dumps([model.requests, failed])
    assert "hunter2" not in shown
    assert "upstream_unavailable" in shown
