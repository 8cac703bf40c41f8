"""kill -9 while a turn waits for its client: another server waits in its place, and asks for nothing twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from aiohttp import web

from backend.settings import AGENT
from tests.chaos.fleet import ServerProcess, forked
from tests.doubles.model_server import call_answer, model_server, text_answer

GROUPS = """
device:
  executor: client
  functions: device.json
  tools:
    get_position: {effect: read}
"""
DOOR = {"type": "string", "description": "Its name.", "required": True}
FUNCTIONS = [
    {"name": "get_position", "description": "Where the device is.", "parameters": {}},
    {"name": "open_door", "description": "Open a door.", "parameters": {"door": DOOR}},
]


def agent_with_a_device(folder: Path) -> Path:
    agent = folder / "agent"
    shutil.copytree(AGENT, agent)
    (agent / "action_groups.yaml").write_text(GROUPS)
    (agent / "device.json").write_text(json.dumps(FUNCTIONS))
    return agent


async def brain(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Ask the device for what the person wants, and tell that it answered."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        answer = text_answer("Your device says so." if "so-it-says" in last["content"] else "Your device says nothing.")
    elif "door" in str(last["content"]):
        answer = call_answer(("open_door", {"door": "north"}))
    else:
        answer = call_answer(("get_position", {}))
    return await answer(request, body)


@pytest.mark.parametrize("text", ["Where am I?", "Open the north door"], ids=["read", "gated"])
async def test_the_client_answers_another_server(tmp_path: Path, database_url: str, redis_url: str, text: str) -> None:
    """The answer given to the other server ends the turn that the first one had begun."""
    async with model_server(brain) as model, httpx.AsyncClient(trust_env=False, timeout=30) as http:
        keys = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "OUTCROP_DATA_DIR": str(tmp_path / "unused"),
            "AGENT_DIR": str(agent_with_a_device(tmp_path)),
            "TURN_LEASE_SECONDS": "2",
            "EFFECT_LOOK_SECONDS": "2",
            "PF360_API_URL": "http://127.0.0.1:9",
            "PF360_JWT_SECRET": "x" * 40,
            "LLM_PROVIDER": "local",
            "LLM_API_URL": model.url,
            "LLM_MODEL": "model-1",
        }

        async def post(server: ServerProcess, path: str, **body: Any) -> dict[str, Any]:
            answer = await http.post(f"{server.url}/api/v1/chat{path}", json=body)
            assert answer.status_code == 200, answer.text
            read: dict[str, Any] = answer.json()
            return read

        first = await ServerProcess(tmp_path, keys, forked).ready()
        asked = await post(first, "", message=text)
        session = asked["session_id"]
        if asked["pending_actions"]:
            pending_id = asked["pending_actions"][0]["pending_id"]
            asked = await post(first, "/confirm", session_id=session, pending_id=pending_id, decision="confirm")
        (action,) = asked["client_actions"]
        second = await ServerProcess(tmp_path, keys, forked).ready()
        try:
            await first.kill()
            result = {"said": "so-it-says"}
            done = await post(
                second, "/client-actions", session_id=session, action_id=action["action_id"], result=result
            )
        finally:
            await second.stop()
    assert (done["status"], done["turn_id"]) == ("completed", asked["turn_id"])
    assert "Your device says so." in done["text"]
    assert [each["status"] for each in done["tool_calls"]] == ["ok"]
    record = await asyncpg.connect(database_url)
    rows = await record.fetch("SELECT state, result FROM client_actions")
    assert [(row["state"], json.loads(row["result"])) for row in rows] == [("answered", result)]
    fence = await record.fetchval("SELECT lease_fence FROM turns WHERE id = $1::uuid", asked["turn_id"])
    assert fence == 2
    await record.close()
