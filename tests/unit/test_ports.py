"""Ports of tests: never the same one twice, and never a stranger's server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from tests.ports import RANGE, free_port, of_this_worker, wait_until_listening


def test_workers_share_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker has its own slice, and a process gets no port of it twice."""
    given: list[int] = []
    for number in range(8):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{number}")
        monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "8")
        given += of_this_worker()
    assert len(given) == len(set(given)) == len(RANGE) // 8 * 8
    assert len({free_port() for _ in range(20)}) == 20


def test_a_server_that_died_at_bind_is_not_mistaken_for_another() -> None:
    """Somebody else listens there; our child finds the port taken and ends."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        command = [sys.executable, "-c", f"import socket; socket.socket().bind(('127.0.0.1', {port}))"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": ""})
        with pytest.raises(AssertionError, match=f"ended with 1 before it took port {port}"):
            wait_until_listening(process, port)
        process.wait()
