"""The PF360 simulator's clock and state file, and the simulator as a process: start, stop, orphans, cut connections."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import psutil
import pytest

from backend.embedded.pf360_simulator import simulator as simulator_module
from backend.embedded.pf360_simulator.app import create_app
from backend.embedded.pf360_simulator.fixture import read_fixture, shift_weeks, week_of
from backend.embedded.pf360_simulator.simulator import Simulator
from tests.unit.pf360_calls import ADMIN_SECRET, JWT_SECRET, Pf360, code_of, config, in_process, token

FLOORING, WINDOWS = "410001", "410002"
ZONE = ZoneInfo("America/New_York")
SECRETS = {"PF360_JWT_SECRET": JWT_SECRET, "PF360_ADMIN_SECRET": ADMIN_SECRET}
START_S = 60.0


# --- the live clock -------------------------------------------------------------------------------------------------


def test_live_dates_move_by_whole_weeks_into_the_current_one() -> None:
    """Weekdays, hours and distances stay; free text does not change."""
    seed, live = read_fixture(), Simulator(config("live")).state.fixture
    assert week_of(date.fromisoformat(live["now"][:10])) == week_of(datetime.now(ZONE).date())
    pairs = list(zip(_dates(seed), _dates(live), strict=True))
    assert len(pairs) > 80
    [distance] = {new - old for old, new in pairs}
    assert distance.days % 7 == 0
    assert live["projects"][1]["start"].endswith("T08:00:00")
    assert [note["note_text"] for note in live["notes"]] == [note["note_text"] for note in seed["notes"]]
    assert live["clients"][0]["hours"] == seed["clients"][0]["hours"]


def _dates(value: Any) -> Iterator[date]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _dates(key)
            yield from _dates(item)
    elif isinstance(value, list):
        for item in value:
            yield from _dates(item)
    elif isinstance(value, str) and re.match(r"\d{4}-\d{2}-\d{2}", value):
        yield date.fromisoformat(value[:10])


def test_shifting_keeps_clock_times_and_text() -> None:
    value = {"2026-03-11": ["2026-12-30T08:00:00", "On 2026-03-11 we come"], "note_text": "2026-03-11", "n": 3}
    assert shift_weeks(value, 1) == {
        "2026-03-18": ["2027-01-06T08:00:00", "On 2026-03-11 we come"],
        "note_text": "2026-03-11",
        "n": 3,
    }


async def test_live_clock_shows_the_real_time_of_day_at_the_site() -> None:
    pf = Pf360(in_process(create_app(config("live"))), token())
    clock = (await pf.admin("GET", "clock")).json()
    assert (clock["frozen"], clock["mode"], clock["timezone"]) == (False, "live", "America/New_York")
    now = datetime.fromisoformat(clock["now"])
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=2)
    assert now.utcoffset() == datetime.now(ZONE).utcoffset()
    notes = (await pf.notes(FLOORING)).json()["data"]
    assert notes[0]["created_at"].endswith("T14:05:00")


# --- the state file -------------------------------------------------------------------------------------------------


async def test_changes_survive_a_restart(tmp_path: Path) -> None:
    settings = config("live", tmp_path / "pf360.json")
    pf = Pf360(in_process(create_app(settings)), token(), today=_today())
    offered = (await pf.dates(FLOORING)).json()["data"]
    [day, *_] = offered["dates"]
    slot = (await pf.slots(FLOORING, day, offered["request_id"])).json()["data"]["slots"][0]
    await pf.admin("POST", "take", {"project_id": "410005", "date": day, "time": "10:00:00"})
    await pf.schedule(FLOORING, day, slot, offered["request_id"])
    await pf.note(FLOORING, "survives")
    before = (await pf.admin("GET", "state")).json()

    restarted = Pf360(in_process(create_app(settings)), token(), today=_today())
    after = (await restarted.admin("GET", "state")).json()
    for part in ("projects", "notes", "assignments", "taken", "commit_count", "tickets"):
        assert after[part] == before[part], part
    assert [c["kind"] for c in await restarted.commits()] == ["take", "schedule", "add_note"]
    await restarted.note(FLOORING, "next")
    assert (await restarted.commits())[-1]["seq"] == 4
    assert os.listdir(tmp_path) == ["pf360.json"], "no temporary file is left"


def _today() -> str:
    return datetime.now(ZONE).date().isoformat()


async def test_a_state_of_an_earlier_week_moves_forward_by_whole_weeks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A booking made on a Monday stays on a Monday, in the week that is now current."""
    settings = config("fixture", tmp_path / "pf360.json")
    pf = Pf360(in_process(create_app(settings)), token())
    await pf.book(FLOORING, "2026-03-16", "10:00:00")
    seed = read_fixture()
    monkeypatch.setattr(simulator_module, "read_fixture", lambda: seed | {"now": "2026-03-25T09:30:00-04:00"})
    later = Pf360(in_process(create_app(settings)), token(), today="2026-03-25")
    assert await later.standing(FLOORING) == ("Tentatively Scheduled", "2026-03-30T10:00:00")
    state = (await later.admin("GET", "state")).json()
    assert state["projects"][WINDOWS]["start"] == "2026-04-01T08:00:00"
    assert state["notes"][WINDOWS][0]["created_at"] == "2026-03-19T09:12:00"
    assert state["tickets"] == []
    assert (await later.commits())[0]["after"]["start"] == "2026-03-16T10:00:00", "the log stays as it was written"


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"version": 99}', '{"version": 1, "state": {}}'])
async def test_a_state_file_that_cannot_be_used_is_kept_aside(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pf360.json"
    path.write_text(content)
    pf = Pf360(in_process(create_app(config("fixture", path))), token())
    assert await pf.standing(FLOORING) == ("Ready To Schedule", None)
    assert (tmp_path / "pf360.json.unusable").read_text() == content
    assert "cannot be used" in capsys.readouterr().err


async def test_reset_also_resets_the_file(tmp_path: Path) -> None:
    settings = config("fixture", tmp_path / "pf360.json")
    pf = Pf360(in_process(create_app(settings)), token())
    await pf.book(FLOORING, "2026-03-16", "10:00:00")
    await pf.admin("POST", "reset")
    again = Pf360(in_process(create_app(settings)), token())
    assert await again.standing(FLOORING) == ("Ready To Schedule", None)


# --- the process ----------------------------------------------------------------------------------------------------


class Process:
    """A simulator of its own, with the frozen clock."""

    def __init__(self, *arguments: str, **env: str) -> None:
        command = [sys.executable, "-m", "backend.embedded.pf360_simulator", *arguments]
        environment = {**os.environ, **SECRETS, "PF360_CLOCK": "fixture", **env}
        self.child = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.child.stdout is not None
        ready = json.loads(self.child.stdout.readline())
        assert ready["ready"] is True
        self.url = f"http://127.0.0.1:{ready['port']}"

    def stop(self) -> int:
        """Exit status after SIGTERM."""
        self.child.terminate()
        return self.child.wait(START_S)


@pytest.fixture
def process() -> Iterator[Process]:
    running = Process()
    yield running
    assert running.stop() == 0
    assert running.child.stderr is not None
    assert running.child.stderr.read() == ""


async def test_a_process_answers_books_once_and_cuts_connections(process: Process) -> None:
    async with httpx.AsyncClient(base_url=process.url) as http:
        pf = Pf360(http, token())
        request_id = await pf.request_id(FLOORING)
        answers = await asyncio.gather(*(pf.schedule(FLOORING, "2026-03-16", "10:00:00", request_id) for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7
        await pf.arm("cancel", "commit_then_drop", times=1)
        with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
            await pf.cancel(WINDOWS)
        assert await pf.standing(WINDOWS) == ("Ready To Schedule", None)
        weather = await http.get("/weather/Port%20Ellis", params={"format": "j1"})
        assert weather.json()["nearest_area"][0]["areaName"][0]["value"] == "Port Ellis"


async def test_requests_that_wait_do_not_hold_up_the_end() -> None:
    running = Process()
    async with httpx.AsyncClient(base_url=running.url, timeout=30) as http:
        pf = Pf360(http, token())
        await pf.arm("dashboard", "timeout")
        await pf.arm("list_notes", "slow:60000")
        hanging = [asyncio.create_task(pf.dashboard()), asyncio.create_task(pf.notes(FLOORING))]
        await _arrive(hanging)
        started = time.monotonic()
        assert await asyncio.to_thread(running.stop) == 0
        assert time.monotonic() - started < 20, "the slow one takes a minute, the other for ever"
        await asyncio.gather(*hanging, return_exceptions=True)


async def _arrive(tasks: list[asyncio.Task[httpx.Response]]) -> None:
    """Give requests that never answer the time to arrive."""
    done, _ = await asyncio.wait(tasks, timeout=0.3)
    assert not done


async def test_a_client_that_gives_up_is_forgotten(process: Process) -> None:
    async with httpx.AsyncClient(base_url=process.url, timeout=30) as http:
        pf = Pf360(http, token())
        await pf.arm("dashboard", "timeout", times=1)
        http.timeout = 0.2
        with pytest.raises(httpx.ReadTimeout):
            await pf.dashboard()
        http.timeout = 30
        assert (await pf.dashboard()).status_code == 200


def test_it_starts_in_well_under_a_second(process: Process) -> None:
    second = Process()
    used = psutil.Process(second.child.pid).cpu_times()
    assert second.stop() == 0
    assert used.user + used.system < 1.5, "0.4 s; the margin is for a busy machine"


def test_it_loads_nothing_of_the_product() -> None:
    code = (
        "import sys, backend.embedded.pf360_simulator.__main__\n"
        "heavy = {'fastapi', 'pydantic', 'sqlalchemy', 'asyncpg', 'redis', 'langgraph', 'agent', 'tools'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "print(sorted(n for n in sys.modules if n.startswith('backend.') and 'pf360_simulator' not in n))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines() == ["[]", "['backend.embedded']"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"PF360_JWT_SECRET": ""}, "PF360_JWT_SECRET is not set"),
        ({"PF360_ADMIN_SECRET": ""}, "PF360_ADMIN_SECRET is not set"),
        ({"PF360_PORT": "http"}, "PF360_PORT must be"),
        ({"PF360_CLOCK": "sundial"}, "PF360_CLOCK must be"),
        ({"PF360_STATE_FILE": "/nowhere/at/all.json"}, "PF360_STATE_FILE"),
    ],
)
def test_it_refuses_to_start_with_unusable_settings(change: dict[str, str], named: str) -> None:
    command = [sys.executable, "-m", "backend.embedded.pf360_simulator"]
    done = subprocess.run(command, env={**os.environ, **SECRETS, **change}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert named in done.stderr
    assert done.stdout == ""


def test_a_taken_port_is_named(process: Process) -> None:
    port = process.url.rpartition(":")[2]
    command = [sys.executable, "-m", "backend.embedded.pf360_simulator", "--port", port]
    done = subprocess.run(command, env={**os.environ, **SECRETS}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


def test_ctrl_c_is_a_clean_end() -> None:
    running = Process()
    running.child.send_signal(signal.SIGINT)
    assert running.child.wait(START_S) == 0


def test_it_ends_with_its_standard_input() -> None:
    running = Process("--watch-stdin")
    assert running.child.stdin is not None
    running.child.stdin.close()
    assert running.child.wait(START_S) == 0


PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-m", "backend.embedded.pf360_simulator", "--parent-pid", str(os.getpid())], stdout=subprocess.PIPE
)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def test_it_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], env={**os.environ, **SECRETS}, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + START_S
    while _runs(pid):
        assert time.monotonic() < deadline, "the simulator outlived its parent"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


async def test_bookings_survive_a_kill(tmp_path: Path) -> None:
    path = str(tmp_path / "pf360.json")
    first = Process("--state-file", path)
    async with httpx.AsyncClient(base_url=first.url) as http:
        assert (await Pf360(http, token()).book(FLOORING, "2026-03-16", "10:00:00")).status_code == 200
    first.child.kill()
    first.child.wait()
    second = Process(PF360_STATE_FILE=path)
    async with httpx.AsyncClient(base_url=second.url) as http:
        pf = Pf360(http, token())
        assert await pf.standing(FLOORING) == ("Tentatively Scheduled", "2026-03-16T10:00:00")
        assert code_of(await pf.book(FLOORING, "2026-03-17", "13:00:00")) == (400, "invalid_step")
    assert second.stop() == 0
