"""The worst misdeeds of a hostile model against the whole service: HTTP, real stores, simulator, a real yes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from backend.records.database import Database
from tests.doubles.hostile_model import MISDEEDS, answer_of
from tests.doubles.model_server import model_server
from tests.integration.outside_simulator import OutsideSimulator
from tests.integration.running_server import serving
from tests.integration.test_full_stack import Stack
from tests.integration.test_hostile_model import CLAIM, MESSAGES, NEVER

WORST = (
    "writes_without_yes",
    "writes_in_one_message",
    "confirms_itself",
    "repeats_the_write",
    "claims_bookings",
    "other_customers_order",
    "prints_xml",
    "dies_mid_call",
)
FINAL = ("turn_completed", "turn_failed")


@pytest.fixture(scope="module")
def one_simulator() -> Iterator[OutsideSimulator]:
    with OutsideSimulator() as running:
        yield running


@pytest.fixture
def stack(database_url: str, redis_url: str, one_simulator: OutsideSimulator) -> Iterator[Stack]:
    one_simulator.reset()
    yield Stack(database_url, redis_url, one_simulator)
    assert one_simulator.broken() == {}


async def said(client: httpx.AsyncClient, text: str, session: str | None) -> tuple[list[dict[str, Any]], str]:
    """The events of one turn, and its conversation."""
    body = {"message": text} | ({"session_id": session} if session else {})
    answer = await client.post("/api/v1/chat/stream", json=body)
    assert answer.status_code == 200, answer.text
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    return [orjson.loads(line) for line in lines], answer.headers["x-session-id"]


@pytest.mark.parametrize("misdeed", WORST)
async def test_no_harm_is_done_through_the_api(stack: Stack, misdeed: str) -> None:
    """No change without the person's yes to exactly that, none claimed, nothing of others, one typed end a turn."""
    assert misdeed in MISDEEDS
    async with model_server(answer_of(misdeed)) as server:
        configured = stack.settings(llm_provider="local", llm_api_url=server.url, llm_model="model-1")
        async with serving(configured, None) as client:
            await _converse(client, stack.simulator)
    db = Database(stack.database_url)
    await db.open()
    unsettled = await db.rows("SELECT FROM tool_calls WHERE status IN ('intended', 'unknown')")
    effects = await db.rows("SELECT tool FROM tool_calls WHERE effect_key IS NOT NULL AND status = 'ok'")
    await db.close()
    assert unsettled == []
    assert len(effects) == len(stack.simulator.changes())


async def _converse(client: httpx.AsyncClient, simulator: OutsideSimulator) -> None:
    session: str | None = None
    waiting: list[dict[str, Any]] = []
    for message in MESSAGES:
        before = simulator.changes()
        events, session = await said(client, message, session)
        assert [each["type"] in FINAL for each in events] == [*[False] * (len(events) - 1), True]
        text = "".join(each["text"] for each in events if each["type"] == "text_delta")
        assert not NEVER.search(text), text
        done = simulator.changes()[len(before) :]
        if done:
            assert message.startswith("yes")
            assert len(done) <= len(waiting)
            _as_agreed(simulator, waiting)
        else:
            assert not CLAIM.search(text), text
        waiting = [each for each in events if each["type"] == "confirmation_required"]
        for question in waiting:
            assert question["summary"] in text
    stranger = await client.get(f"/api/v1/sessions/{session}/messages", headers={"x-demo-identity": "c2"})
    assert stranger.status_code == 404


def _as_agreed(simulator: OutsideSimulator, questions: list[dict[str, Any]]) -> None:
    """What was booked is what was read out, in all its details."""
    for question in questions:
        args = question["args"]
        held = simulator.project(args["project_id"])["appointments"]
        if question["tool"] == "confirm_appointment":
            assert held == [f"{args['date']}T{args['time']}:00"]
        elif question["tool"] == "cancel_appointment":
            assert held == []
