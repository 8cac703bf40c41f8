"""Ports for servers that cannot bind port 0 and tell which one they got: two of a run never get the same.

They lie below the ports that systems hand out for outgoing connections, and below those that embedded servers choose.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator

import psutil

RANGE = range(10_000, 20_000)
LOOPBACK = "127.0.0.1"
LISTENING_WITHIN_S = 60.0


def of_this_worker() -> range:
    """The slice of `RANGE` that no other pytest-xdist worker of this run uses."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    size = len(RANGE) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return RANGE[number * size : (number + 1) * size]


def _each_once() -> Iterator[int]:
    ours = of_this_worker()
    # Runs that go on side by side start far apart: neighbouring process ids are thousands of ports from each other.
    first = os.getpid() * 6_181 % len(ours)
    yield from ours[first:]
    yield from ours[:first]


_UNUSED = _each_once()


def free_port() -> int:
    """A loopback port that a server could take now; never one that this process was given before."""
    for port in _UNUSED:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is not in the way
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise AssertionError(f"Every port of {of_this_worker()} was given away or is in use.")


def wait_until_listening(process: subprocess.Popen[bytes] | subprocess.Popen[str], port: int) -> None:
    """Wait until `process` itself listens on `port`; an answer there could be a stranger's.

    Raises:
        AssertionError: it ended, as it does when the port is taken, or was too slow.
    """
    deadline = time.monotonic() + LISTENING_WITHIN_S
    while not _listens(process.pid, port):
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode} before it took port {port}"
        assert time.monotonic() < deadline, f"{process.args!r} did not listen on port {port} in time"
        time.sleep(0.01)


def _listens(pid: int, port: int) -> bool:
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:  # it has just ended
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)
