"""`outcrop eval` on two routes: recorded with a model, then repeated exactly without it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from backend.evaluation.command import main
from tests.doubles.model_service import Call, ModelService, Reply

KEY = "sk-never-on-a-tape"
LOOK_UP = Reply(calls=(Call("list_projects"),))
SCENARIOS = """
schema_version: 1
kind: test
fixture: default
scenarios:
- id: R1
  tags: [info]
  persona: c1
  turns:
    - {user: "what do I have with you?", calls: [{tool: list_projects}]}
    - {user: LAST}
- id: R2
  tags: [info]
  persona: c1
  turns: [{user: "what do I have with you?"}]
- id: R3
  tags: [chitchat]
  persona: c1
  turns: [{user: good morning}]
"""
MODELS = """
providers:
  one: {kind: openai, model: one-1, base_url: ONE, api_key_env: KEY_OF_ONE}
  two: {kind: openai, model: two-1, base_url: TWO, api_key_env: KEY_OF_ONE}
routes:
  first: {primary: one}
  second: {primary: two}
route: first
"""


def without_times(report: Any) -> Any:
    """What must be the same in a replay."""
    if isinstance(report, dict):
        return {key: without_times(each) for key, each in report.items() if key not in ("duration_s", "latency_s")}
    return [without_times(each) for each in report] if isinstance(report, list) else report


async def test_a_recorded_comparison_repeats_exactly_without_the_models(
    tmp_path: Path, models: ModelService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers, calls, failures and numbers; what was changed since the recording is a failed turn that says so."""
    down = Reply(status=500)
    # R1 and R2 begin with the same words: what was answered in the one must not come up in the other.
    one = await models.lane(
        LOOK_UP, Reply("There is a list."), Reply("Goodbye."), Reply("Let me see."), down, down, api_key=KEY
    )
    two = await models.lane(
        Reply("I do not know."), Reply("Bye."), LOOK_UP, Reply("There is one."), Reply("Morning."), api_key=KEY
    )
    scenarios, described, tape = tmp_path / "r.yaml", tmp_path / "models.yaml", tmp_path / "tape"
    scenarios.write_text(SCENARIOS.replace("LAST", "thanks"), "utf-8")
    described.write_text(MODELS.replace("ONE,", f"{one.url('openai')},").replace("TWO", two.url("openai")), "utf-8")
    monkeypatch.setenv("MODELS_FILE", str(described))
    monkeypatch.setenv("KEY_OF_ONE", KEY)

    async def evaluate(name: str, *more: str) -> dict[str, Any]:
        report = tmp_path / f"{name}.json"
        options = ("--route", "first", "--jobs", "1", "--json", str(report), *more)
        assert await asyncio.to_thread(main, [str(scenarios), *options]) == 1
        found: dict[str, Any] = json.loads(report.read_text("utf-8"))
        return found

    recorded = await evaluate("recorded", "--route", "second", "--record", str(tape))
    first, second = (recorded["routes"][route] for route in ("first", "second"))
    assert (first["passed"], first["failed_turns"], first["tool_calls"]) == (2, 1, 1)
    assert (second["passed"], second["failed_turns"], second["tool_calls"]) == (2, 0, 1)
    assert (second["model_calls"], second["input_tokens"], second["output_tokens"]) == (5, 55, 35)
    apart = {each["scenario"]: (each["kinds"], each["passed"]) for each in recorded["disagreements"]}
    assert apart == {
        "R1": (["passed", "calls"], {"first": True, "second": False}),
        "R3": (["passed"], {"first": False, "second": True}),
        "R2": (["calls"], {"first": True, "second": True}),
    }
    assert not any(KEY in file.read_text("utf-8") for file in tape.rglob("*") if file.is_file())

    asked = len(await one.requests())
    monkeypatch.delenv("KEY_OF_ONE")
    scenarios.write_text(SCENARIOS.replace("LAST", "thank you"), "utf-8")
    replayed = await evaluate("replayed", "--replay", str(tape), "--html", str(tmp_path / "page.html"))
    assert len(await one.requests()) == asked == 6
    before, after = (
        {key: without_times(each["routes"]["first"]) for key, each in report["scenarios"].items()}
        for report in (recorded, replayed)
    )
    assert (after["R2"], after["R3"]) == (before["R2"], before["R3"])
    assert after["R3"]["transcript"][0]["error"] == "503 model_unavailable"
    first_turn, changed_turn = after["R1"]["transcript"]
    assert first_turn == before["R1"]["transcript"][0]
    assert "not_on_tape: r.R1, turn 2, model call 1 ('thank you')" in changed_turn["error"]
    assert "has changed since the recording: message 5 (user)" in changed_turn["error"]
    assert "r.R1, turn 2" in (tmp_path / "page.html").read_text("utf-8")
