"""The guard that keeps the tests off the network, in this process and in child processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.loopback import BeyondLoopback

TRY = "import socket; socket.create_connection(('{host}', {port}), timeout=5)"


@pytest.mark.parametrize("host", ["192.0.2.1", "example.com", "2001:db8::1"])
def test_no_way_out(host: str) -> None:
    with pytest.raises(BeyondLoopback):
        socket.create_connection((host, 80), timeout=5)


def test_loopback_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1]), timeout=5).close()


def test_no_way_out_for_a_child() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "loopback_only")}
    code = TRY.format(host="192.0.2.1", port=80)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "BeyondLoopback: refused" in done.stderr
