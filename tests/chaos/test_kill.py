"""kill -9 after every step of a change: nothing is lost, nothing happens twice, and the conversation says what is so.

The upstream lives on in a process of its own. A server is brought to a step and killed there; another one over the same
stores takes the turn over. Where the change is made, in the server's process or in a function, makes no difference.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.chaos.conftest import PATIENCE
from tests.chaos.fleet import ServerProcess, outcrop_serve
from tests.chaos.scene import (
    BOOKING,
    CANCELLATION,
    MOVE,
    NOTE,
    Change,
    Scene,
    Surroundings,
    upstream_holds,
    whole_and_once,
)
from tests.chaos.steps import (
    STEP,
    STEPS,
    Step,
    after_the_release,
    swallowed_on_its_way,
    while_upstream_works_long,
)
from tests.integration.outside_simulator import OutsideSimulator

# A booking shows every step. The others add what they alone have: two writes, and no yes.
OTHERS: tuple[tuple[Change, Step], ...] = (
    (MOVE, Step("released", after_the_release)),
    (MOVE, Step("release in flight for long", while_upstream_works_long)),
    (CANCELLATION, STEP["request in flight", None]),
    (NOTE, STEP["turn accepted", None]),
    (NOTE, STEP["request in flight", None]),
    (NOTE, STEP["answer received", None]),
)
IN_FUNCTIONS = ((MOVE, "released"), (NOTE, "request in flight"))
CASES = [
    (executor, change, step)
    for executor in ("in_process", "lambda")
    for change, step in (*((BOOKING, step) for step in STEPS), *OTHERS)
    if step.only in (None, executor)
    and (executor == "in_process" or change is BOOKING or (change, step.name) in IN_FUNCTIONS)
]


@pytest.mark.parametrize(("executor", "change", "step"), CASES, ids=str)
async def test_a_killed_server_leaves_the_truth(change: Change, step: Step, around: Surroundings) -> None:
    """The change is made exactly once, the reply says so, the message is there once, the request finds its turn."""
    scene = Scene(change, around)
    await scene.prepare()
    async with step.point(scene):
        await around.fleet.kill_active()
        await scene.broke_off()
    await scene.give_up_leases()
    await whole_and_once(scene)


@pytest.mark.parametrize("executor", ["in_process"])
async def test_a_note_that_perhaps_was_not_sent_is_not_sent_again(around: Surroundings) -> None:
    """Nobody said yes to it: killed before upstream did it, it is told as unclear, not as saved, and raised."""
    scene = Scene(NOTE, around)
    await scene.prepare()
    async with swallowed_on_its_way(scene):
        await around.fleet.kill_active()
        await scene.broke_off()
    await scene.give_up_leases()
    answer = await scene.change_it()
    assert answer["tool_calls"][-1]["status"] == "unknown"
    assert "saved" not in answer["text"].lower()
    upstream_holds(scene, ())
    await scene.until("SELECT FROM audit_events WHERE conversation_id = $1 AND type = 'effect_unknown'", scene.session)


async def test_a_service_with_its_own_stores_comes_back(folder: Path, simulator: OutsideSimulator) -> None:
    """Killed with its PostgreSQL and Redis while upstream works; the next start on the data finishes the turn."""
    keys = {**simulator.environment, **PATIENCE, "OUTCROP_DATA_DIR": str(folder / "data")}
    first = await ServerProcess(folder, keys, outcrop_serve).ready()
    async with httpx.AsyncClient(base_url=first.url, timeout=30.0, trust_env=False) as client:
        asked = (await client.post("/api/v1/chat", json={"message": BOOKING.before[0]})).json()
        body = {"message": "yes", "session_id": asked["session_id"]}
        simulator.arm("schedule", "slow:1500", times=1)
        sent = asyncio.create_task(client.post("/api/v1/chat", json=body, headers={"idempotency-key": "k"}))
        dashboards = simulator.requests("dashboard")
        async with asyncio.timeout(60):
            while simulator.requests("dashboard") == dashboards:
                await asyncio.sleep(0.01)
        await first.kill()
        with pytest.raises(httpx.TransportError):
            await sent
    second = await ServerProcess(folder, keys, outcrop_serve).ready()
    try:
        async with httpx.AsyncClient(base_url=second.url, timeout=30.0, trust_env=False) as client:
            answer = (await client.post("/api/v1/chat", json=body, headers={"idempotency-key": "k"})).json()
            assert BOOKING.reply in answer["text"]
        assert tuple(simulator.changes()) == BOOKING.commits
        assert simulator.broken() == {}
    finally:
        await second.stop()
