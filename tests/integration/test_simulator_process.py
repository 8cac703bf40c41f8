"""The simulator as our child: its answer, its secrets, its end."""

import stat
from pathlib import Path

import httpx
import psutil
import pytest

from backend.embedded.data_folder import EmbeddedError
from backend.embedded.simulator_process import simulator


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


def _serves(process: psutil.Process, data_dir: Path) -> bool:
    try:
        return process.environ().get("PF360_STATE_FILE", "").startswith(str(data_dir))
    except psutil.Error:
        return False
