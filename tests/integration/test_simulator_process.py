"""The simulator as our child: its answer, its secrets, its end."""

import asyncio
import socket
import stat
from pathlib import Path

import httpx
import psutil
import pytest

from backend.embedded.data_folder import EmbeddedError
from backend.embedded.simulator_process import simulator
from tests.ports import free_port


async def test_runs_keeps_its_secrets_and_ends(tmp_path: Path) -> None:
    """It answers under the secret, refuses without, is remembered over a restart, and ends with the block."""
    data_dir = tmp_path / "data"
    async with simulator(data_dir, "fixture") as first:
        async with httpx.AsyncClient(base_url=first.admin_url) as client:
            assert (await client.get("/_sim/state", headers={"x-sim-secret": first.admin_secret})).status_code == 200
            assert (await client.get("/_sim/state", headers={"x-sim-secret": "guess"})).status_code in (401, 403)
        (process,) = [p for p in psutil.process_iter(["cmdline"]) if _serves(p, data_dir)]
    assert not process.is_running()
    assert stat.S_IMODE((data_dir / "simulator.json").stat().st_mode) == 0o600
    async with simulator(data_dir, "fixture") as second:
        assert second == first


async def test_one_per_folder(tmp_path: Path) -> None:
    async with simulator(tmp_path / "data", "fixture"):
        with pytest.raises(EmbeddedError, match="in use by process"):
            async with simulator(tmp_path / "data", "fixture"):
                pass


async def test_a_dead_simulator_comes_back_as_it_was(tmp_path: Path) -> None:
    """Killed after a change: same place, same secrets, the change still there."""
    async with simulator(tmp_path / "data", "fixture") as ours:
        headers = {"x-sim-secret": ours.admin_secret}
        async with httpx.AsyncClient(base_url=ours.admin_url, headers=headers) as client:
            await client.post("/_sim/approve", json={"project_id": "420002"})
            before = (await client.get("/_sim/commits")).json()["commits"]
            (process,) = [p for p in psutil.process_iter(["cmdline"]) if _serves(p, tmp_path / "data")]
            process.kill()
            async with asyncio.timeout(15):
                while True:
                    try:
                        after = (await client.get("/_sim/commits")).json()["commits"]
                        break
                    except httpx.TransportError:
                        await asyncio.sleep(0.05)
    assert before
    assert after == before


async def test_given_place_and_secrets_are_taken(tmp_path: Path) -> None:
    """And a taken port is said, with the key that names it."""
    port = free_port()
    told = pytest.raises(EmbeddedError, match=f"Port {port}, which PF360_ADMIN_URL names")
    with socket.create_server(("127.0.0.1", port)), told:
        async with simulator(tmp_path / "data", "fixture", port=port):
            pass
    secret, key = "s" * 20, "k" * 40
    async with simulator(tmp_path / "data", "fixture", port=port, admin_secret=secret, jwt_secret=key) as ours:
        assert (ours.admin_url, ours.admin_secret, ours.jwt_secret) == (f"http://127.0.0.1:{port}", secret, key)
        async with httpx.AsyncClient(base_url=ours.admin_url, headers={"x-sim-secret": secret}) as client:
            assert (await client.get("/_sim/clock")).json()["mode"] == "fixture"
    assert secret not in (tmp_path / "data" / "simulator.json").read_text()


def _serves(process: psutil.Process, data_dir: Path) -> bool:
    try:
        return process.environ().get("PF360_STATE_FILE", "").startswith(str(data_dir))
    except psutil.Error:
        return False
