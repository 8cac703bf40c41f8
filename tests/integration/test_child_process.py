"""A program of ours as a child: the ready line, its log, its end."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from backend.embedded import EmbeddedError, process
from backend.embedded.data_folder import owned_folder
from backend.embedded.process import Command, cap_log, child_process, spawn, stop

READY = 'import json,time; print(json.dumps({"ready": True, "port": 7}), flush=True); print("later", flush=True); '


def program(folder: Path, code: str, stop_timeout_s: float = 10.0) -> Command:
    return Command("child", [sys.executable, "-c", code], folder, stop_timeout_s=stop_timeout_s)


def child_of(folder: Path) -> psutil.Process:
    return psutil.Process(json.loads((folder / "run" / "child.json").read_text())["pid"])


async def test_what_it_says_reaches_us_and_it_ends_with_the_block(tmp_path: Path) -> None:
    with owned_folder(tmp_path / "d", "simulator") as folder:
        async with child_process(program(folder, READY + "time.sleep(60)")) as said:
            assert said == {"ready": True, "port": 7}
            child = child_of(folder)
            await logged(folder, "later\n")
        assert not child.is_running()


@pytest.mark.parametrize(
    "code", ["print('hello', flush=True)", "raise SystemExit('no port')", "print('{}', flush=True)"]
)
async def test_no_ready_line(tmp_path: Path, code: str) -> None:
    with owned_folder(tmp_path / "d", "simulator") as folder:
        with pytest.raises(EmbeddedError, match="did not say that it is ready"):
            async with child_process(program(folder, code)):
                pass
        assert not (folder / "run" / "child.json").exists()


async def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    """Under the same command; the block goes on, and its end stops the second one."""
    with owned_folder(tmp_path / "d", "simulator") as folder:
        async with child_process(program(folder, READY + "time.sleep(60)")):
            first = child_of(folder)
            await logged(folder, "later\n")
            first.kill()
            await logged(folder, "later\nlater\n")
            second = child_of(folder)
            assert second.is_running()
        assert second.pid != first.pid
        assert not second.is_running()


async def logged(folder: Path, text: str) -> None:
    """Wait until its log holds a text."""
    async with asyncio.timeout(60):
        while text not in (folder / "logs" / "child.log").read_text():
            await asyncio.sleep(0.02)


async def test_a_silent_child_is_not_waited_for_long(tmp_path: Path) -> None:
    with (
        owned_folder(tmp_path / "d", "simulator") as folder,
        pytest.raises(EmbeddedError, match="did not say"),
    ):
        async with child_process(program(folder, "import time; time.sleep(60)"), ready_timeout_s=0.2):
            pass


async def test_a_child_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    with owned_folder(tmp_path / "d", "simulator") as folder:
        began = time.monotonic()
        async with child_process(program(folder, deaf + READY + "time.sleep(60)", 0.2)):
            child = child_of(folder)
        assert not child.is_running()
        assert time.monotonic() - began < 10


async def test_a_cancelled_start_kills_what_does_not_listen(tmp_path: Path) -> None:
    """Ctrl-C while it starts: whoever cleans up has been cancelled before."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    up = asyncio.Event()

    async def begin(command: Command) -> None:
        child = await spawn(command, stdout=subprocess.PIPE)
        assert child.stdout
        await child.stdout.readline()
        up.set()
        try:
            await child.wait()
        finally:
            await stop(command, child)

    with owned_folder(tmp_path / "d", "simulator") as folder:
        beginning = asyncio.create_task(begin(program(folder, deaf, 0.2)))
        await asyncio.wait_for(up.wait(), 10)
        child = child_of(folder)
        beginning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await beginning
        assert not child.is_running()


def test_logs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit what is there moves to `.1`, and an appending writer goes on at the new beginning."""
    monkeypatch.setattr(process, "LOG_LIMIT_BYTES", 100)
    path = tmp_path / "x.log"
    with path.open("a") as writer:
        for _ in range(5):
            writer.write("a" * 60 + "\n")
            writer.flush()
            cap_log(path)
        writer.write("last\n")
    assert path.read_text().endswith("last\n")
    assert path.stat().st_size < 100
    assert (tmp_path / "x.log.1").stat().st_size == 122


def test_an_owner_that_is_killed_takes_its_child_along(tmp_path: Path) -> None:
    """kill -9 of whoever runs the child; Linux only, elsewhere the next start stops it."""
    code = f"""
import asyncio, sys
from pathlib import Path
from backend.embedded.data_folder import owned_folder
from backend.embedded.process import Command, child_process
async def main():
    with owned_folder(Path({str(tmp_path / "d")!r}), "simulator") as folder:
        async with child_process(Command("child", [sys.executable, "-c", {READY + "time.sleep(60)"!r}], folder)):
            print("up", flush=True)
            await asyncio.sleep(60)
asyncio.run(main())
"""
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert owner.stdout
    while owner.stdout.readline() != b"up\n":
        pass
    child = child_of(tmp_path / "d")
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    if sys.platform == "linux":
        assert psutil.wait_procs([child], timeout=60)[1] == []
