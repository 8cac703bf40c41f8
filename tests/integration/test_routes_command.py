"""A served canary that fails: what people get, what `/metrics` and `outcrop routes` say, and the last word on it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from backend.embedded.stores import known_redis_url
from tests.doubles.model_service import ModelService, Reply
from tests.integration.running_server import serving
from tests.integration.test_models_file import provider, say, served, write
from tests.nursery import outcrop


async def test_a_served_canary_from_its_first_failure_to_its_promotion(
    database_url: str, redis_url: str, tmp_path: Path, models: ModelService
) -> None:
    """Every message is answered by the primary; the canary is rolled back, reset, promoted; each word is on record."""
    down = await models.lane(Reply(status=400, error="bad_request"), repeat_last=True)
    up = await models.lane(Reply("Good day."), repeat_last=True)
    path = tmp_path / "models.yaml"
    canary = {"to": "b", "percent": 100, "rollback": {"samples": 5}}
    body: dict[str, Any] = {
        "providers": {"a": provider(up), "b": provider(down, model="model-2")},
        "routes": {"default": {"primary": "a", "canary": canary}, "plain": {"primary": "a"}},
    }
    write(path, body)

    async def run(*arguments: str) -> tuple[int, str, str]:
        where = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        done = await asyncio.to_thread(outcrop, "routes", *arguments, cwd=tmp_path, **where)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    async with serving(served(database_url, redis_url, path), None) as client:
        answers = [await say(client) for _ in range(6)]
        assert {answer.json()["text"] for answer in answers} == {"Good day."}
        await holds(client, 'outcrop_canary_rolled_back{canary="b",route="default"} 1.0')
        scraped = await client.get("/metrics")
        assert scraped.headers["content-type"].startswith("text/plain")
        for line in (
            'outcrop_model_calls_total{arm="canary",model="model-2",outcome="rejected",provider="b",route="default"}',
            'outcrop_model_failovers_total{instead_of="b",provider="a",route="default"} ',
            'outcrop_route_decisions_total{action="rolled_back",by="budget",canary="b",route="default"} 1.0',
            'outcrop_canary_percent{canary="b",route="default"} 0.0',
            'outcrop_turns_total{state="completed"} 6.0',
            'outcrop_breaker_state{upstream="model:b"} 0.0',
        ):
            assert line in scraped.text, line

        _, text, _ = await run("status", "--json")
        default, plain = json.loads(text)["routes"]
        assert (default["route"], plain["route"], plain["canary"]) == ("default", "plain", None)
        assert default["canary"]["why"].startswith("rolled back by budget: error rate")
        assert default["canary"]["arms"]["canary"]["errors"] == default["canary"]["arms"]["canary"]["calls"] >= 5
        assert default["canary"]["budgets"][0] == {"name": "errors", "measured": 1.0, "allowed": 0.05}

        code, _, said = await run("promote", "default")
        assert (code, "outcrop routes reset default" in said) == (1, True)
        code, text, _ = await run("reset", "default", "--by", "kim\x1b[31m", "--reason", "mended")
        assert (code, "clean slate" in text) == (0, True)
        await holds(client, 'outcrop_canary_percent{canary="b",route="default"} 100.0')
        code, text, _ = await run("promote", "default", "--by", "kim")
        assert (code, "set `routes.default.primary: b`" in text) == (0, True)
        code, text, _ = await run("status")
        assert (code, "default (answers everybody)" in text, "\x1b" in text) == (0, True, False)
        assert "b: 100 %, promoted by kim" in text

        write(path, {**body, "routes": {"default": {"primary": "b"}, "plain": {"primary": "a"}}})
        await holds(client, 'outcrop_canary_percent{canary="b"', there=False)
        await holds(client, '{action="reset",by="service",canary="b",route="default"} 1.0')
    _, text, _ = await run("report", "--json")
    told = [(each["action"], each["by"]) for each in reversed(json.loads(text)["decisions"]) if each["canary"]]
    # The last: the promotion was made good by the file, and is over.
    assert told == [("rolled_back", "budget"), ("reset", "kim [31m"), ("promoted", "kim"), ("reset", "service")]


async def holds(client: httpx.AsyncClient, line: str, *, there: bool = True) -> None:
    """Wait until `/metrics` says it, or no more."""
    async with asyncio.timeout(10):
        while (line in (await client.get("/metrics")).text) != there:
            await asyncio.sleep(0.02)


def test_the_embedded_redis_is_known_by_its_folder(tmp_path: Path) -> None:
    """None where none was started."""
    assert known_redis_url(tmp_path) is None
    (tmp_path / "redis.port").write_text("20123")
    (tmp_path / "redis.json").write_text('{"password": "p"}')
    assert known_redis_url(tmp_path) == "redis://:p@127.0.0.1:20123/0"
