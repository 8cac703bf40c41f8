"""`outcrop models`: what is configured, and what the models really do; nothing of it shows a key."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import yaml

from tests.doubles.model_service import Call, Lane, ModelService, Reply, Usage
from tests.nursery import outcrop

KEY = "sk-never-to-be-seen"
COUNTS = Reply(tuple(f"line {n}\n" for n in range(20)), delay_between_s=0.005, usage=Usage(30, 40))
CALLS = Reply(calls=(Call("note_word", {"word": "red"}), Call("note_word", {"word": "blue"})), usage=Usage(60, 20))


def configured(folder: Path, lane: Lane, **more: object) -> dict[str, str]:
    """The environment for a models file with one provider, behind a key."""
    path = folder / "models.yaml"
    entry = {"kind": "openai", "model": "model-1", "base_url": lane.url("openai"), "api_key_env": "HOUSE_KEY", **more}
    path.write_text(yaml.safe_dump({"providers": {"house": entry}, "routes": {"default": {"primary": "house"}}}))
    return {"MODELS_FILE": str(path), "HOUSE_KEY": KEY}


async def test_a_model_that_does_what_is_assumed_is_well(models: ModelService, tmp_path: Path) -> None:
    """Two calls: a text that streams and is counted, and two calls of a tool at once."""
    lane = await models.lane(COUNTS, CALLS, api_key=KEY)
    environ = configured(tmp_path, lane)
    ended = await asyncio.to_thread(outcrop, "models", "probe", "--json", cwd=tmp_path, **environ)
    assert ended.returncode == 0, ended.stderr
    (found,) = json.loads(ended.stdout)
    seen = {each["capability"]: each["seen"] for each in found["examination"]["seen"]}
    assert seen == {
        "streams": True,
        "reports_usage": True,
        "reasoning": None,
        "tools": True,
        "parallel_tool_calls": True,
    }


async def test_what_differs_is_told_with_the_line_to_write(models: ModelService, tmp_path: Path) -> None:
    """The record is data in a file; the probe says what belongs in it."""
    one_call = Reply(calls=(Call("note_word", {"word": "red"}),))
    lane = await models.lane(COUNTS, one_call, api_key=KEY)
    ended = await asyncio.to_thread(outcrop, "models", "probe", cwd=tmp_path, **configured(tmp_path, lane))
    assert ended.returncode == 0
    assert "providers.house: capabilities: {parallel_tool_calls: false}" in ended.stdout
    assert KEY not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("more", "key", "words"),
    [
        ({}, "another", "Set HOUSE_KEY (the api_key_env of providers.house) to a valid key."),
        ({"model": "model-2"}, KEY, "providers.house.model"),
        ({"base_url": "http://127.0.0.1:9/v1"}, KEY, "providers.house.base_url"),
    ],
)
async def test_what_is_wrong_is_told_with_its_fix(
    models: ModelService, tmp_path: Path, more: dict[str, object], key: str, words: str
) -> None:
    """By the probe and by the doctor alike."""
    lane = await models.lane(COUNTS, api_key=KEY)
    environ = {**configured(tmp_path, lane, **more), "HOUSE_KEY": key}
    for command in (("models", "probe"), ("doctor",)):
        ended = await asyncio.to_thread(outcrop, *command, cwd=tmp_path, **environ)
        assert ended.returncode == 1
        assert words in ended.stdout
        assert key not in ended.stdout + ended.stderr


async def test_the_list_asks_nobody(models: ModelService, tmp_path: Path) -> None:
    """Providers, what is assumed of them, routes; a file with faults is told and ends with 2."""
    lane = await models.lane()
    environ = configured(tmp_path, lane, capabilities={"max_context_tokens": 12345})
    ended = await asyncio.to_thread(outcrop, "models", "list", cwd=tmp_path, **environ)
    assert ended.returncode == 0
    assert "12,345 tokens" in ended.stdout
    assert "route default: house" in ended.stdout
    assert await lane.requests(listings=True) == []
    wrong = await asyncio.to_thread(outcrop, "models", "list", cwd=tmp_path, MODELS_FILE=environ["MODELS_FILE"])
    assert wrong.returncode == 2
    assert "HOUSE_KEY is not set" in wrong.stderr + wrong.stdout
