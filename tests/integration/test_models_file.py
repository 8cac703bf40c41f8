"""A served models file: who answers, what a change of it does while serving, and what its faults do not."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from backend.settings import Settings, SettingsError
from tests.doubles.model_service import Lane, ModelService, Reply, Usage
from tests.integration.running_server import serving, settings

SOMEWHERE = {"kind": "local", "model": "m", "base_url": "http://127.0.0.1:9/v1"}


def provider(lane: Lane, **more: Any) -> dict[str, Any]:
    """An entry for a scripted server."""
    return {"kind": "local", "model": "model-1", "base_url": lane.url("openai"), **more}


def write(path: Path, body: dict[str, Any]) -> None:
    """Replace the file at once, as editors and deployments do."""
    draft = path.with_suffix(".draft")
    draft.write_text(yaml.safe_dump(body), "utf-8")
    os.replace(draft, path)


def served(database_url: str, redis_url: str, path: Path, **more: Any) -> Settings:
    """Settings of a service with this models file."""
    return settings(database_url, redis_url, models_file=path, **more)


async def say(client: httpx.AsyncClient, text: str = "hello", session: str | None = None) -> httpx.Response:
    """One message of the first demo customer."""
    body = {"message": text, **({"session_id": session} if session else {})}
    return await client.post("/api/v1/chat", json=body)


async def state(client: httpx.AsyncClient) -> dict[str, Any]:
    """What the service says of its models."""
    models: dict[str, Any] = (await client.get("/readyz")).json()["models"]
    return models


async def test_a_changed_file_answers_from_the_next_turn_on_and_a_broken_one_changes_nothing(
    database_url: str, redis_url: str, tmp_path: Path, models: ModelService
) -> None:
    """The conversation goes on with the new model, which is shown what the old one said."""
    old = await models.lane(Reply("I am the old one."), repeat_last=True)
    new = await models.lane(Reply("I am the new one."), repeat_last=True)
    path = tmp_path / "models.yaml"
    body: dict[str, Any] = {"providers": {"a": provider(old)}, "routes": {"default": {"primary": "a"}}}
    write(path, body)
    async with serving(served(database_url, redis_url, path), None) as client:
        first = (await say(client)).json()
        assert first["text"] == "I am the old one."
        write(path, {**body, "routes": {"default": {"primary": "nobody"}}})
        async with asyncio.timeout(10):
            while not (faults := (await state(client))["faults"]):
                await asyncio.sleep(0.02)
        assert [fault["path"] for fault in faults] == [f"{path}: routes.default.primary"]
        assert (await say(client)).json()["text"] == "I am the old one."
        body["providers"]["b"] = provider(new)
        body["routes"]["default"]["primary"] = "b"
        write(path, body)
        async with asyncio.timeout(10):
            while (now := await state(client))["primary"] != "b":
                await asyncio.sleep(0.02)
        assert now["faults"] == []
        second = (await say(client, "and now?", first["session_id"])).json()
        assert second["text"] == "I am the new one."
    (asked,) = await new.bodies()
    assert "I am the old one." in str(asked["messages"])


async def test_fallback_and_budget_hold_in_a_served_turn(
    database_url: str, redis_url: str, tmp_path: Path, models: ModelService
) -> None:
    """One model down: the other answers and the row says so. The day's money gone: a typed refusal, also after a flush
    of Redis, since what was spent stands in the rows."""
    down = await models.lane(Reply(status=503, error="unavailable"), repeat_last=True)
    up = await models.lane(Reply("Good day.", usage=Usage(1_000_000, 10)), repeat_last=True)
    prices, path = tmp_path / "prices.yaml", tmp_path / "models.yaml"
    prices.write_text("model-1: {input: 1.5, output: 0}\n")
    write(
        path,
        {
            "providers": {"a": provider(down), "b": provider(up)},
            "routes": {"default": {"primary": "a", "fallbacks": [{"to": "b"}]}},
            "budgets": {"user_day_usd": 1.0},
        },
    )
    configured = served(database_url, redis_url, path, prices_file=prices)
    async with serving(configured, None) as client:
        answered = await say(client)
        assert answered.json()["text"] == "Good day."
        async with asyncio.timeout(10):
            while (refused := await say(client)).status_code != 429:
                await asyncio.sleep(0.02)
        assert refused.json()["code"] == "budget_spent"
        asked = len(await up.requests())
        await flushed(redis_url)
        assert (await say(client)).status_code == 429
        assert len(await up.requests()) == asked
    row = await only_completed(database_url)
    assert (row["route"], row["arm"], row["provider"], row["cost_usd"]) == ("default", "fallback", "b", 1.5)


async def flushed(redis_url: str) -> None:
    """Forget all that Redis knows."""
    import redis.asyncio as redis

    client = redis.Redis.from_url(redis_url)
    await client.flushdb()
    await client.aclose()


async def only_completed(database_url: str) -> Any:
    """The row of the only turn that was answered."""
    import asyncpg

    connection = await asyncpg.connect(database_url)
    try:
        (row,) = await connection.fetch("SELECT * FROM turns WHERE state = 'completed'")
        return row
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"providers": {}, "routes": {"default": {"primary": "gpt"}}}, "routes.default.primary"),
        (
            {
                "providers": {"gpt": {**SOMEWHERE, "capabilities": {"wings": True}}},
                "routes": {"default": {"primary": "gpt"}},
            },
            "providers.gpt.capabilities.wings",
        ),
        (
            {
                "providers": {
                    "x": {"kind": "bedrock", "model": "m", "region": "eu-west-1", "options": {"inferenceConfig": 5}}
                },
                "routes": {"default": {"primary": "x"}},
            },
            "providers.x",
        ),
        (
            {
                "providers": {"x": {"kind": "langchain", "model": "m", "factory": "no_such_package:Chat"}},
                "routes": {"default": {"primary": "x"}},
            },
            "providers.x",
        ),
        (
            {
                "providers": {"x": {"kind": "bedrock", "model": "somebodys.new-model-v1:0", "region": "eu-west-1"}},
                "routes": {"default": {"primary": "x"}},
                "budgets": {"day_usd": 5},
            },
            "providers.x",
        ),
    ],
)
async def test_a_file_that_cannot_be_used_is_told_before_anything_starts(
    database_url: str, redis_url: str, tmp_path: Path, body: dict[str, Any], place: str
) -> None:
    """With its path, the place in it and the fix."""
    path = tmp_path / "models.yaml"
    write(path, body)
    with pytest.raises(SettingsError) as caught:
        async with serving(served(database_url, redis_url, path), None):
            pass
    assert f"{path}: {place}" in str(caught.value)


async def test_when_nothing_answers_any_more_the_planner_does(
    database_url: str, redis_url: str, tmp_path: Path, models: ModelService
) -> None:
    """It says that it does; when the model is back, that one answers again."""
    lane = await models.lane(Reply(status=503, error="unavailable"), repeat_last=True)
    path = tmp_path / "models.yaml"
    write(path, {"providers": {"a": provider(lane)}, "routes": {"default": {"primary": "a"}}})
    async with serving(served(database_url, redis_url, path), None) as client:
        seen = []
        async with asyncio.timeout(20):
            while "simpler way" not in (answer := (await say(client)).json()).get("text", ""):
                seen.append(answer.get("code"))
        assert set(seen) == {"model_unavailable"}
        assert len(seen) < 5
