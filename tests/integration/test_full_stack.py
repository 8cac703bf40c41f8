"""The whole service over HTTP on real stores, with the simulator in a process of its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from backend.settings import Settings
from tests.integration.outside_simulator import ADMIN_SECRET, JWT_SECRET, OutsideSimulator
from tests.integration.running_server import serving
from tests.integration.running_server import settings as complete

BOOKING = "book my flooring on monday at 10"


@pytest.fixture(scope="module")
def one_simulator() -> Iterator[OutsideSimulator]:
    with OutsideSimulator() as running:
        yield running


@pytest.fixture
def simulator(one_simulator: OutsideSimulator) -> Iterator[OutsideSimulator]:
    """Fresh data; its rules hold afterwards."""
    one_simulator.reset()
    yield one_simulator
    assert one_simulator.broken() == {}


class Stack:
    """Makes settings that point at this test's stores and simulator."""

    def __init__(self, database_url: str, redis_url: str, simulator: OutsideSimulator) -> None:
        self.database_url, self.redis_url, self.simulator = database_url, redis_url, simulator

    def settings(self, **more: Any) -> Settings:
        upstream = {
            "pf360_api_url": self.simulator.url,
            "pf360_admin_url": self.simulator.url,
            "pf360_admin_secret": SecretStr(ADMIN_SECRET),
            "pf360_jwt_secret": SecretStr(JWT_SECRET),
            "pf360_clock": "fixture",
            "pf360_settle_seconds": 0.3,
        }
        return complete(self.database_url, self.redis_url, **{**upstream, **more})


@pytest.fixture
def stack(database_url: str, redis_url: str, simulator: OutsideSimulator) -> Stack:
    return Stack(database_url, redis_url, simulator)


async def say(client: httpx.AsyncClient, text: str, session: str | None = None) -> dict[str, Any]:
    """One message that is answered."""
    answer = await client.post("/api/v1/chat", json={"message": text} | ({"session_id": session} if session else {}))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_in_test_mode_nothing_is_sent_and_the_reply_says_so(stack: Stack) -> None:
    """CONFIRM_SCHEDULE_FLAG=0 for bookings and moves, CANCEL_SCHEDULE_FLAG=0 for cancellations."""
    configured = stack.settings(confirm_schedule_flag=False, cancel_schedule_flag=False)
    async with serving(configured, None) as client:
        for wish in (BOOKING, "move my windows to tuesday march 17 at 10", "cancel my windows appointment"):
            asked = await say(client, wish)
            while asked["status"] != "waiting":
                asked = await say(client, "any time, the first one", asked["session_id"])
            done = await say(client, "yes", asked["session_id"])
            assert done["parts"][-1]["data"]["test_mode"] is True, done
            assert "test mode" in done["text"], done["text"]
    assert stack.simulator.changes() == []


async def test_an_upstream_that_fails_is_tried_again_then_left_alone(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the keys: one retry a read; after three failures in a row no more requests, until the pause is over."""
    stack.simulator.arm("dashboard", "http_503")
    configured = stack.settings(
        pf360_read_retries=1, pf360_retry_pause_seconds=0.01, pf360_breaker_failures=3, pf360_breaker_reset_seconds=2
    )
    async with serving(configured, None) as client:
        first = await say(client, "show my projects")
        session = first["session_id"]
        assert stack.simulator.requests("dashboard") == 2
        for _ in range(3):
            await say(client, "show my projects", session)
        assert stack.simulator.requests("dashboard") == 3
        assert (await client.get("/readyz")).json()["breakers"] == {"pf360": "open", "weather": "closed"}
        stack.simulator.disarm()
        async with asyncio.timeout(30):
            while [each["status"] for each in (await say(client, "show my projects", session))["tool_calls"]] != ["ok"]:
                await asyncio.sleep(0.1)
    said = capsys.readouterr().out
    for state in ("open", "closed"):
        assert re.search(rf"breaker_changed\s.*state={state}", re.sub(r"\x1b\[\d*m", "", said)), said
