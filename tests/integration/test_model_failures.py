"""A model that is not there, refuses us or dies: what is said at start, by the doctor and in the turn; what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from pydantic import SecretStr

from backend.settings import Settings
from tests.chaos.fleet import ServerProcess, outcrop_serve
from tests.doubles.model_server import delta, events, model_server, status, text_answer
from tests.integration.running_server import serving, settings
from tests.nursery import outcrop
from tests.ports import free_port

KEY = "sk-very-secret-0123"
NOWHERE = "http://127.0.0.1:9/v1"


@asynccontextmanager
async def failing(how: str) -> AsyncIterator[str]:
    """A model server that fails like this; its address."""
    answers = {
        "wrong key": status(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}),
        "unknown model": status(404, {"error": {"message": "The model `m` does not exist"}}),
        "dies mid-stream": events(delta("Let me see. I will"), done=False, die=True),
        "too busy": status(429, {"error": {"message": "slow down"}}),
    }
    refusal = web.json_response({"error": {"message": f"no such key {KEY}"}}, status=401)
    if how == "not there":
        yield NOWHERE
        return
    async with model_server(answers[how], models=refusal if how == "wrong key" else None) as server:
        yield server.url


def with_model(database_url: str, redis_url: str, url: str) -> Settings:
    """Settings of a service that a model at `url` answers for."""
    model: dict[str, Any] = {"llm_provider": "local", "llm_api_url": url, "llm_model": "m"}
    return settings(database_url, redis_url, **model, llm_api_key=SecretStr(KEY))


@pytest.mark.parametrize(
    ("how", "code", "http_status", "hint"),
    [
        ("not there", "model_unavailable", 503, "cannot answer just now"),
        ("wrong key", "model_rejected", 502, "LLM_API_KEY"),
        ("unknown model", "model_rejected", 502, "LLM_MODEL"),
        ("dies mid-stream", "model_unavailable", 503, "cannot answer just now"),
        ("too busy", "model_busy", 503, "very busy"),
    ],
)
async def test_the_turn_fails_with_a_type_and_offline_goes_on_with_the_conversation(
    database_url: str, redis_url: str, how: str, code: str, http_status: int, hint: str
) -> None:
    """A problem document and a last event with a hint, never the key; the message is kept; history is whole."""
    async with failing(how) as url, serving(with_model(database_url, redis_url, url), None) as client:
        failed = await client.post("/api/v1/chat", json={"message": "hello there"})
        assert failed.status_code == http_status
        assert failed.headers["content-type"] == "application/problem+json"
        assert failed.json()["code"] == code
        assert hint in failed.json()["detail"]
        session = failed.json()["session_id"]
        streamed = await client.post("/api/v1/chat/stream", json={"message": "hello again", "session_id": session})
        assert streamed.text.count("event: turn_failed") == 1
        assert hint in streamed.text
        assert KEY not in failed.text + streamed.text
    async with serving(settings(database_url, redis_url), None) as client:
        answered = await client.post("/api/v1/chat", json={"message": "thanks, bye", "session_id": session})
        assert answered.status_code == 200, answered.text
        assert answered.json()["text"]
        listed = (await client.get(f"/api/v1/sessions/{session}/messages")).json()["messages"]
    said = [each["body"]["text"] for each in listed if each["role"] == "user"]
    assert said == ["hello there", "hello again", "thanks, bye"]
    async with (
        model_server(text_answer("Good day.")) as server,
        serving(with_model(database_url, redis_url, server.url), None) as client,
    ):
        back = await client.post("/api/v1/chat", json={"message": "hello", "session_id": session})
        assert back.json()["text"] == "Good day."
        texts = [each["content"] for each in server.requests[0]["messages"] if each["role"] == "user"]
        assert any("hello there" in text for text in texts)


async def test_the_service_starts_without_its_model_and_says_so(
    database_url: str, redis_url: str, server_dir: Path
) -> None:
    """It takes messages all the same: the model may come up later."""
    keys = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "PF360_API_URL": "http://127.0.0.1:9",
        "PF360_JWT_SECRET": "x" * 40,
        "OUTCROP_DATA_DIR": str(server_dir / "data"),
        "LLM_PROVIDER": "local",
        "LLM_API_URL": NOWHERE,
        "LLM_MODEL": "m",
        "LLM_API_KEY": KEY,
    }
    server = await ServerProcess(server_dir, keys, outcrop_serve).ready()
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20.0) as client:
        answer = await client.post("/api/v1/chat", json={"message": "hello"})
    assert answer.json()["code"] == "model_unavailable"
    await server.stop()
    said = server.log
    assert f"{NOWHERE} cannot be reached" in said
    assert "LLM_PROVIDER=offline" in said
    assert KEY not in said
    assert "Traceback" not in said


@pytest.mark.parametrize(("how", "key"), [("wrong key", "LLM_API_KEY"), ("unknown model", "LLM_MODEL")])
async def test_the_doctor_names_cause_and_fix(tmp_path: Path, how: str, key: str) -> None:
    """Without the key itself, also where the server repeats it."""
    async with failing(how) as url:
        model = {"LLM_PROVIDER": "local", "LLM_API_URL": url, "LLM_MODEL": "m", "LLM_API_KEY": KEY}
        seen = await asyncio.to_thread(outcrop, "doctor", cwd=tmp_path, PORT=str(free_port()), **model)
    assert seen.returncode == 1
    assert f"-> Set {key}" in seen.stdout
    assert "LLM_PROVIDER=offline" in seen.stdout
    assert KEY not in seen.stdout + seen.stderr
