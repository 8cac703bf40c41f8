"""kill -9 after the yes to a tool called over MCP: the change is made once, and the next session reads that it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import mcp_types as types
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from tests.chaos.fleet import ServerProcess, forked
from tests.integration.outside_simulator import OutsideSimulator

SLOT = {"project_id": "flooring", "date": "2026-03-16", "time": "10:00"}


@asynccontextmanager
async def connected(server: ServerProcess) -> AsyncIterator[Client]:
    """A client whose person says yes."""

    async def yes(context: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"confirm": True})

    async with httpx2.AsyncClient(trust_env=False, timeout=30) as http:
        transport = streamable_http_client(f"{server.url}/mcp", http_client=http, terminate_on_close=False)
        async with Client(transport, mode="legacy", elicitation_callback=yes) as client:
            yield client


async def until(connection: asyncpg.Connection[Any], query: str) -> None:
    async with asyncio.timeout(60):
        while not await connection.fetchval(f"SELECT EXISTS ({query})"):
            await asyncio.sleep(0.01)


async def test_a_confirmed_call_survives_its_server(tmp_path: Path, database_url: str, redis_url: str) -> None:
    """Another server takes the turn of the yes over as what it is: a call, in which no model has a say."""
    with OutsideSimulator() as simulator:
        keys = {
            **simulator.environment,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "OUTCROP_DATA_DIR": str(tmp_path / "unused"),
            "TURN_LEASE_SECONDS": "2",
            "EFFECT_LOOK_SECONDS": "2",
            "PF360_SETTLE_SECONDS": "2",
            "PF360_WRITE_TIMEOUT_SECONDS": "5",
        }
        record = await asyncpg.connect(database_url)
        first = await ServerProcess(tmp_path, keys, forked).ready()
        simulator.arm("schedule", "slow:1500", times=1)
        async with connected(first) as client:
            call = asyncio.create_task(client.call_tool("confirm_appointment", SLOT))
            await until(record, "SELECT FROM tool_calls WHERE status = 'intended'")
            await first.kill()
            with pytest.raises(MCPError):
                await call
        second = await ServerProcess(tmp_path, keys, forked).ready()
        try:
            await until(record, "SELECT FROM turns WHERE decision_confirm AND state = 'completed'")
            turn = await record.fetchrow("SELECT * FROM turns WHERE decision_confirm")
            assert turn
            assert (turn["provider"], turn["lease_fence"]) == ("", 2)
            assert "is booked for Monday, March 16 at 10:00 AM" in turn["reply"]
            assert simulator.changes() == ["schedule"]
            assert simulator.broken() == {}
            async with connected(second) as client:
                status = await client.call_tool("get_appointment_status", {"project_id": "flooring"})
                assert status.structured_content["project"]["appointment"]["date"] == "2026-03-16"
                late = await client.call_tool("confirm_appointment", SLOT)
                assert late.structured_content["code"] == "already_scheduled"
        finally:
            await second.stop()
            await record.close()
