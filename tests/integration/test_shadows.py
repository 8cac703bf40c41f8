"""Served turns with a shadow: people, stores and the office see one turn; the report sees two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.cli.shadow_report import written
from backend.records import shadow_turns, spending
from backend.records.database import Database
from tests.doubles.model_service import Call, Lane, ModelService, Reply, Usage, model_service
from tests.integration.outside_simulator import OutsideSimulator
from tests.integration.running_server import serving
from tests.integration.test_full_stack import Stack
from tests.integration.test_models_file import provider, say, served, write
from tests.integration.test_routes_command import holds

ORDER = "SO-26-1001_1"
SLOTS = {"project_id": ORDER, "date": "2026-03-16"}
BOOKING = {**SLOTS, "time": "10:00"}


def described(path: Path, real: Lane, shadow: Lane, budgets: dict[str, float] | None = None, **limits: int) -> Path:
    """A models file in which every turn of `real` is run again by `shadow`."""
    to = {"to": "b", "percent": 100, **limits}
    write(
        path,
        {
            "providers": {"a": provider(real), "b": provider(shadow, model="model-2")},
            "routes": {"default": {"primary": "a", "shadow": to}},
            "budgets": budgets or {},
        },
    )
    return path


@asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[Database]:
    """The records."""
    db = Database(database_url, max_connections=1)
    await db.open()
    try:
        yield db
    finally:
        await db.close()


async def shadowed(client: httpx.AsyncClient, result: str, times: int) -> None:
    """Wait until so many shadows came to this."""
    await holds(client, f'outcrop_shadow_turns_total{{provider="b",result="{result}",route="default"}} {times}.0')


@pytest.fixture(scope="module")
def one_simulator() -> Iterator[OutsideSimulator]:
    with OutsideSimulator() as running:
        yield running


async def test_a_turn_is_run_again_and_nothing_of_it_happens_twice(
    database_url: str, redis_url: str, tmp_path: Path, models: ModelService, one_simulator: OutsideSimulator
) -> None:
    """A booking with its yes: the shadow sees what the real turn saw; it asks and tells the office nothing."""
    one_simulator.reset()
    real = await models.lane(
        Reply(calls=(Call("get_time_slots", SLOTS),)),
        Reply(calls=(Call("confirm_appointment", BOOKING),)),
        Reply("It is booked."),
    )
    shadow = await models.lane(
        Reply(calls=(Call("get_time_slots", {**SLOTS, "date": "March 16"}),), delay_first_s=0.1),
        Reply(calls=(Call("cancel_appointment", {"project_id": "SO-26-1002_1"}), Call("confirm_appointment", BOOKING))),
        Reply("Your visit at 10:00 AM is booked.", delay_first_s=0.1),
    )
    path = described(tmp_path / "models.yaml", real, shadow)
    configured = Stack(database_url, redis_url, one_simulator).settings(models_file=path)
    async with serving(configured, None) as client:
        asked = (await say(client, "Book my flooring on Monday at 10")).json()
        seen = requests(one_simulator)
        await shadowed(client, "compared", 1)
        done = (await say(client, "yes", asked["session_id"])).json()
        seen_at_last = requests(one_simulator)
        await shadowed(client, "compared", 2)
        assert requests(one_simulator) == seen_at_last > seen
        messages = (await client.get(f"/api/v1/sessions/{asked['session_id']}/messages")).text
    assert one_simulator.changes() == ["schedule"]
    assert one_simulator.broken() == {}
    assert done["text"] == "It is booked."
    assert "Your visit" not in messages
    first, again, after_yes = (str(body["messages"]) for body in await shadow.bodies())
    assert "Book my flooring" in first
    assert "10:00 AM" in again
    assert "Tentatively Scheduled" in after_yes
    async with opened(database_url) as db:
        await reported(db, asked["session_id"])


async def reported(db: Database, conversation_id: str) -> None:
    """What the report says of that booking, and that it goes with its conversation."""
    found = await shadow_turns.report(db, "default", 1)
    (row,) = found.shadows
    assert (row["route"], row["provider"], row["model"], row["turns"], row["failed"]) == (
        "default", "b", "model-2", 2, 0,
    )  # fmt: skip
    assert (row["calls_same"], row["args_same"], row["outcome_same"], row["facts_same"]) == (0.5, 1.0, 1.0, 0.5)
    assert 0 < row["similarity_p5"] <= row["similarity"] < 1
    assert row["shadow_p95_ms"] >= row["shadow_p50_ms"] >= row["shadow_first_ms"] >= 90
    assert row["real_first_ms"] > 0
    told = [(each["difference"], each["turns"]) for each in found.differences]
    assert told == [("also called: cancel_appointment", 1), ("times in the text", 1)]
    (example,) = found.differences[0]["examples"]
    text = written(found)
    assert "default: 2 turns run again by b (model-2)\n" in text
    assert f"1 x also called: cancel_appointment, as in {example}" in text
    stored = str([tuple(each) for each in await db.rows("SELECT comparison::text FROM shadow_turns")])
    assert "Book my" not in stored
    assert "booked" not in stored
    assert await shadow_turns.report(db, "default", 1, "other") == shadow_turns.ShadowReport()
    turns = await db.rows("SELECT count(*) FROM turns UNION ALL SELECT count(*) FROM tool_calls WHERE effect_key <> ''")
    assert [each[0] for each in turns] == [2, 1]
    await db.row("UPDATE shadow_turns SET created_at = now() - interval '31 days' WHERE turn_id = $1", example)
    await shadow_turns.forget(db)
    assert (await shadow_turns.report(db, "default", 10_000)).shadows[0]["turns"] == 1
    await db.row("DELETE FROM conversations WHERE id = $1", conversation_id)
    assert (await shadow_turns.report(db, "default", 10_000)).shadows == []


def requests(simulator: OutsideSimulator) -> int:
    """How often the office was asked anything."""
    return len(simulator.ask("log")["requests"])


async def test_what_does_not_fit_is_left_out(
    database_url: str, redis_url: str, tmp_path: Path, models: ModelService
) -> None:
    """One runs and never ends, one waits, the others are dropped; every live turn is answered; the stop is prompt."""
    real = await models.lane(Reply("Good day."), repeat_last=True)
    shadow = await models.lane(Reply("Never.", hang_after=0), repeat_last=True)
    path = described(tmp_path / "models.yaml", real, shadow, concurrent=1, waiting=1)
    async with serving(served(database_url, redis_url, path), None) as client:
        for _ in range(4):
            assert (await say(client)).json()["text"] == "Good day."
        await shadowed(client, "queue_full", 2)
        await shadow.until(open=1)
        async with asyncio.timeout(5):
            assert (await say(client)).json()["text"] == "Good day."
    await shadow.until(open=0)
    assert len(await shadow.requests()) == 1
    async with opened(database_url) as db:
        assert (await shadow_turns.report(db, "default", 1)).shadows == []


async def test_the_death_of_its_server_is_how_a_shadow_went(
    database_url: str, redis_url: str, tmp_path: Path, models: ModelService, capsys: pytest.CaptureFixture[str]
) -> None:
    """Live turns do not notice, and neither does the circuit of that provider, by which live turns go."""
    real = await models.lane(Reply("Good day."), repeat_last=True)
    async with model_service() as mortal:
        shadow = await mortal.lane(Reply("Never.", hang_after=0), repeat_last=True)
        path = described(tmp_path / "models.yaml", real, shadow, concurrent=8)
        live = serving(served(database_url, redis_url, path), None)
        client = await live.__aenter__()
        answers = [await say(client) for _ in range(3)]
        await shadow.until(open=3)
    try:
        answers += [await say(client) for _ in range(3)]
        await shadowed(client, "compared", 6)
        assert {answer.json()["text"] for answer in answers} == {"Good day."}
        assert (await client.get("/readyz")).json()["breakers"].get("model:b", "closed") == "closed"
    finally:
        await live.__aexit__(None, None, None)
    async with opened(database_url) as db:
        found = await shadow_turns.report(db, "default", 1)
    (row,) = found.shadows
    assert (row["turns"], row["failed"], row["outcome_same"], row["similarity"]) == (6, 6, 0.0, None)
    assert found.differences[0]["difference"] == "completed -> failed: model_unavailable"
    said = capsys.readouterr().out
    assert "turn_crashed" not in said
    assert "turn_error" not in said


async def test_shadows_leave_the_last_of_a_budget_to_people(
    database_url: str, redis_url: str, tmp_path: Path, models: ModelService
) -> None:
    """What they cost counts, also when read from the rows; near the limit they are left out, and live turns are not."""
    real = await models.lane(
        Reply("Good day.", usage=Usage(10_000, 1)), Reply("Good day.", usage=Usage(600_000, 1)), Reply("Good day.")
    )
    shadow = await models.lane(Reply("Good day.", usage=Usage(300_000, 1)))
    prices = tmp_path / "prices.yaml"
    prices.write_text("model-1: {input: 1, output: 0}\nmodel-2: {input: 1, output: 0}\n")
    path = described(tmp_path / "models.yaml", real, shadow, {"user_day_usd": 1.0})
    async with serving(served(database_url, redis_url, path, prices_file=prices), None) as client:
        await say(client)
        await shadowed(client, "compared", 1)
        async with opened(database_url) as db:
            day: Any = await db.row("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day")
            assert await spending.since(db, day["day"], "default", None) == pytest.approx(0.31)
        await say(client)
        await shadowed(client, "budget", 1)
        assert (await say(client)).json()["text"] == "Good day."
        await shadowed(client, "budget", 2)
    assert len(await shadow.requests()) == 1
