"""`outcrop serve` and its companions as processes of their own, with every socket beyond loopback refused."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
import redis

from backend.sessions.breakers import breaker_key
from tests.nursery import address_in, environment, outcrop
from tests.ports import free_port

STARTED: list[subprocess.Popen[str]] = []


@dataclass
class Served:
    """A running `outcrop serve`."""

    process: subprocess.Popen[str]
    url: str
    folder: Path

    @property
    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def serve(folder: Path) -> Served:
    """Start it and wait until it answers."""
    path = folder / "serve.log"
    with path.open("a") as log:
        before = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "backend", "serve"], text=True, cwd=folder, stdout=log, stderr=log,
            env=environment(PORT="0", OUTCROP_DATA_DIR=str(folder / "data")),
        )  # fmt: skip
    STARTED.append(process)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, path.read_text()
        if url := address_in(path.read_text()[before:]):
            assert httpx.get(f"{url}/healthz", trust_env=False, timeout=30).status_code == 200
            return Served(process, url, folder)
        time.sleep(0.02)
    raise AssertionError(path.read_text())


@pytest.fixture
def folder() -> Iterator[Path]:
    # Directly below the temporary folder, where the account that root's PostgreSQL runs as can reach it.
    made = Path(tempfile.mkdtemp(prefix="outcrop-cli-"))
    made.chmod(0o711)
    yield made
    for process in STARTED:
        if process.poll() is None:  # a test failed before it could stop it
            process.kill()
            process.wait()
    STARTED.clear()
    shutil.rmtree(made, ignore_errors=True)


def test_serve_starts_all_answers_and_stops_all(folder: Path) -> None:
    """No network: a turn with a tool call is answered; Ctrl-C leaves no process; data survives; so does kill -9."""
    served = serve(folder)
    body = {"message": "show my projects"}
    first = httpx.post(f"{served.url}/api/v1/chat", json=body, trust_env=False, timeout=30).json()
    assert first["status"] == "completed"
    assert [call["status"] for call in first["tool_calls"]] == ["ok"]
    said = outcrop("chat", "--url", served.url, "--as", "c2", stdin="hello\n/quit\n", cwd=folder)
    assert said.returncode == 0
    assert len(said.stdout.splitlines()) > 1

    again = outcrop("serve", "--port", served.url.rsplit(":", 1)[1], cwd=folder)
    assert again.returncode == 1
    assert "Cannot listen" in again.stderr
    taken = outcrop("serve", "--port", str(free_port()), "--data-dir", str(folder / "data"), cwd=folder)
    assert taken.returncode == 1
    assert "in use by process" in taken.stderr

    children = served.children
    assert len(children) >= 3
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(timeout=60) == 0
    assert psutil.wait_procs(children, timeout=60)[1] == []

    for ending in (signal.SIGKILL, signal.SIGTERM):
        served = serve(folder)
        messages = httpx.get(f"{served.url}/api/v1/sessions/{first['session_id']}/messages", trust_env=False).json()
        assert messages["messages"][0]["body"]["text"] == "show my projects"
        served.process.send_signal(ending)
        served.process.wait(timeout=60)
    text = (folder / "serve.log").read_text()
    assert "Traceback" not in text
    assert "offline planner" in text


def test_doctor_names_what_is_wrong_and_how_to_mend_it(folder: Path, database_url: str, redis_url: str) -> None:
    """All well, then each dependency away. An upstream that is being left alone is named."""
    with redis.Redis.from_url(redis_url) as client:
        client.hset(breaker_key("default", "mcp:crm"), "open", 1)
        client.hset(breaker_key("default", "weather"), "open", 0)
    well = outcrop("doctor", cwd=folder, DATABASE_URL=database_url, REDIS_URL=redis_url, PORT=str(free_port()))
    assert well.returncode == 0, well.stdout
    assert "open: mcp:crm\n" in well.stdout
    ill = outcrop(
        "doctor", cwd=folder, DATABASE_URL="postgresql://a:b@127.0.0.1:9/c", REDIS_URL="redis://127.0.0.1:9/0",
        LLM_PROVIDER="local", LLM_API_URL="http://127.0.0.1:9/v1", LLM_MODEL="m", PF360_API_URL="http://127.0.0.1:9",
        PF360_JWT_SECRET="x" * 40,
    )  # fmt: skip
    assert ill.returncode == 1
    for key in ("DATABASE_URL", "REDIS_URL", "LLM_API_URL", "PF360_API_URL", "LLM_PROVIDER=offline"):
        assert key in ill.stdout
    assert "Traceback" not in ill.stderr


def test_wrong_configuration_is_told_all_at_once(folder: Path) -> None:
    """Every wrong key with its fix, nothing started."""
    answer = outcrop("serve", cwd=folder, PORT="x", HOST="0.0.0.0", REDIS_URL="nonsense", SESSION_IDLE_SECONDS="0")  # noqa: S104
    assert answer.returncode == 1
    for key in ("PORT", "HOST", "REDIS_URL", "SESSION_IDLE_SECONDS"):
        assert f"{key}:" in answer.stderr
    assert "loopback" in answer.stderr
    missing = outcrop("serve", cwd=folder, LLM_PROVIDER="local", PF360_API_URL="http://127.0.0.1:9")
    for key in ("LLM_API_URL", "LLM_MODEL", "PF360_JWT_SECRET"):
        assert f"{key}:" in missing.stderr
    assert not (folder / ".outcrop").exists()
