"""Driving conversations and reporting them, against a small API and a small simulator of our own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.evaluation import report
from backend.evaluation.command import CannotEvaluate, load_files, main, select
from backend.evaluation.run import Knowledge, Outcome, Subject, Task, run_all
from backend.evaluation.scenario import Scenario, ScenarioError, ScenarioFile, load_scenarios
from backend.evaluation.simulator_admin import SimulatorAdmin, SimulatorError, read_commit

NOTHING = Knowledge({}, ())
ARGS = {"project_id": "410001", "date": "2026-03-16", "time": "10:00"}
BODY = f"""
scenarios:
- id: T1
  title: books
  tags: [booking]
  persona: c1
  faults: [{{before_turn: 2, endpoint: dashboard, mode: stale_read, times: 1}}]
  clock: [{{before_turn: 2, advance_seconds: 60}}]
  turns:
    - user: monday at ten
      route: scheduling
      gate: ask
      pending: {{tool: confirm_appointment, args: {json.dumps(ARGS)}}}
    - user: "yes"
      gate: act
      calls: [{{tool: confirm_appointment, args: {json.dumps(ARGS)}}}]
  writes: [{{tool: confirm_appointment, args: {json.dumps(ARGS)}}}]
- id: T2
  tags: [chitchat]
  persona: c2
  turns: [{{user: hello}}]
"""
RESTATED = "Your flooring, Monday, March 16 at 10 AM. Shall I book it?"
WAITING = {"pending_id": "p1", "tool": "confirm_appointment", "args": ARGS, "summary": "", "expires_at": ""}
ASKED = {
    "session_id": "s1",
    "status": "waiting",
    "text": RESTATED,
    "specialist": "scheduling",
    "tool_calls": [{"tool": "confirm_appointment", "args": ARGS, "status": "pending"}],
    "pending_actions": [WAITING],
}
BOOKED = {
    "session_id": "s1",
    "status": "completed",
    "text": "It is booked for Monday, March 16.",
    "specialist": "scheduling",
    "tool_calls": [{"tool": "confirm_appointment", "args": ARGS, "status": "ok"}],
    "pending_actions": [],
}


@dataclass
class World:
    """What the two small servers remember."""

    admin: list[tuple[str, Any]] = field(default_factory=list)
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    commits: list[dict[str, Any]] = field(default_factory=list)

    def simulator(self, request: httpx.Request) -> httpx.Response:
        """The admin API."""
        path = request.url.path
        if request.method == "POST":
            self.admin.append((path, json.loads(request.content)))
        if path == "/_sim/reset":
            self.commits.clear()
        after = int(request.url.params.get("after", 0))
        answers: dict[str, Any] = {
            "/_sim/commits": {"commits": [entry for entry in self.commits if entry["seq"] > after]},
            "/_sim/log": {
                "requests": [{"path": "/scheduler/client/20OC01BK/business-hours", "query": {}, "fault": None}]
            },
            "/_sim/state": {"projects": {}, "notes": {}, "assignments": {}, "tickets": []},
            "/_sim/invariants": {"double_booked_slots": 0},
            "/_sim/clock": {"now": "2026-03-11T09:30:00-04:00", "mode": "fixture"},
        }
        return httpx.Response(200, json=answers.get(path, {}))

    def product(self, request: httpx.Request) -> httpx.Response:
        """The chat API: asks, and books on a yes."""
        body = json.loads(request.content)
        self.messages.append((request.headers["x-demo-identity"], body))
        if body["message"] == "hello":
            return httpx.Response(200, json={**BOOKED, "session_id": "s2", "text": "Hi.", "tool_calls": []})
        if body["message"] != "yes":
            return httpx.Response(200, json=ASKED)
        self.commits.append(commit(1, "schedule", after="2026-03-16T10:00:00"))
        return httpx.Response(200, json=BOOKED)

    @asynccontextmanager
    async def subject(self, product: Callable[[httpx.Request], httpx.Response] | None = None) -> AsyncIterator[Subject]:
        """Both of them."""
        api = httpx.AsyncClient(base_url="http://p", transport=httpx.MockTransport(product or self.product))
        admin = httpx.AsyncClient(base_url="http://s", transport=httpx.MockTransport(self.simulator))
        async with api, admin:
            yield Subject(api, SimulatorAdmin(admin))


def commit(seq: int, kind: str, after: str | None = None, **facts: Any) -> dict[str, Any]:
    """One entry of the simulator's commit log."""
    standing = {"before": {"start": None}, "after": {"start": after}}
    return {"seq": seq, "kind": kind, "source": "api", "project_id": "410001", **standing, **facts}


@pytest.fixture
def file(tmp_path: Path) -> ScenarioFile:
    """Two scenarios."""
    path = tmp_path / "two.yaml"
    path.write_text(f"schema_version: 1\nkind: test\nfixture: default\n{BODY}", "utf-8")
    return load_scenarios(path)


async def outcomes_of(file: ScenarioFile, *openers: Any) -> dict[str, Outcome]:
    """Run all scenarios of a file."""
    tasks = [Task(file, scenario) for scenario in file.scenarios]
    return {outcome.task.scenario.id: outcome async for outcome in run_all(tasks, openers, NOTHING)}


async def test_a_conversation_is_driven_as_the_scenario_says(file: ScenarioFile) -> None:
    """Reset first, clock and faults before their turn, one session a conversation, the persona in the header."""
    world = World()
    outcomes = await outcomes_of(file, world.subject)
    assert {key: [str(r) for r in each.verdict.reasons] for key, each in outcomes.items()} == {"T1": [], "T2": []}
    assert world.admin == [
        ("/_sim/reset", {}),
        ("/_sim/clock", {"advance_seconds": 60.0}),
        ("/_sim/faults", [{"endpoint": "dashboard", "mode": "stale_read", "times": 1}]),
        ("/_sim/reset", {}),
    ]
    assert world.messages == [
        ("c1", {"message": "monday at ten"}),
        ("c1", {"message": "yes", "session_id": "s1"}),
        ("c2", {"message": "hello"}),
    ]


async def test_a_refusal_fails_the_turn(file: ScenarioFile) -> None:
    """What the API refuses is a failed turn; the hint is its text."""

    def busy(_: httpx.Request) -> httpx.Response:
        return httpx.Response(503, json={"code": "busy", "detail": "One moment."})

    outcome = (await outcomes_of(file, partial(World().subject, busy)))["T2"]
    (turn,) = outcome.transcript.turns
    assert (turn.error, turn.text) == ("503 busy", "One moment.")
    assert not outcome.verdict.passed


async def test_a_call_that_is_not_on_the_tape_is_told_whole(file: ScenarioFile) -> None:
    """Which is the reason that the console shows; and each request bears the name of its scenario."""
    marks = []

    def changed(request: httpx.Request) -> httpx.Response:
        marks.append(request.headers["x-correlation-id"])
        return httpx.Response(502, json={"code": "not_on_tape", "detail": "two.T2, turn 1: the prompt has changed."})

    outcome = (await outcomes_of(file, partial(World().subject, changed)))["T2"]
    assert str(outcome.verdict.reasons[0]) == (
        "turn 1: turn: the turn failed: 502 not_on_tape: two.T2, turn 1: the prompt has changed."
    )
    assert marks == ["two.T1", "two.T1", "two.T2"]


async def test_a_silent_simulator_ends_the_run(file: ScenarioFile) -> None:
    """Without the simulator's account nothing can be judged."""

    @asynccontextmanager
    async def broken() -> AsyncIterator[Subject]:
        transport = httpx.MockTransport(lambda _: httpx.Response(401, text="wrong secret"))
        async with httpx.AsyncClient(base_url="http://s", transport=transport) as client:
            yield Subject(client, SimulatorAdmin(client))

    with pytest.raises(SimulatorError, match="wrong secret"):
        await outcomes_of(file, broken)


async def test_the_report_counts(file: ScenarioFile) -> None:
    """Passed, total, wrong writes and violations; reasons and transcript by scenario."""
    world = World()

    def careless(request: httpx.Request) -> httpx.Response:
        world.commits.append(commit(len(world.commits) + 1, "cancel"))
        return httpx.Response(200, json={**BOOKED, "tool_calls": [], "text": "Call 555-0199?? Or not?"})

    outcomes = list((await outcomes_of(file, partial(world.subject, careless))).values())
    made = report.as_json({"planner": outcomes})
    assert (made["passed"], made["total"], made["wrong_writes"]) == (0, 2, 3)
    assert made["violations"] == {"D1": 3, "D2": 0, "D3": 0, "D4": 0, "D5": 0, "D6": 3, "D7": 0, "D8": 3}
    assert {"rule": "D6", "turn": 1, "text": "555-0199 is no number of the persona's offices"} in made["scenarios"][
        "T2"
    ]["routes"]["planner"]["reasons"]
    assert made["scenarios"]["T2"]["routes"]["planner"]["transcript"][0]["user"] == "hello"
    assert json.loads(json.dumps(made)) == made


async def test_what_is_good_enough(file: ScenarioFile) -> None:
    """A share suffices with --min, unless something wrong was written or a grave rule was broken."""
    world = World()
    good = list((await outcomes_of(file, world.subject)).values())

    def wordy(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={**BOOKED, "tool_calls": [], "text": "What? Why?"})

    def liar(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={**BOOKED, "tool_calls": [], "text": "I've cancelled your visit."})

    chatty = (await outcomes_of(file, partial(world.subject, wordy)))["T2"]
    lying = (await outcomes_of(file, partial(world.subject, liar)))["T2"]
    assert report.is_good_enough(good, None)
    assert not report.is_good_enough([*good, chatty], None)
    assert report.is_good_enough([*good, chatty], 0.6)
    assert not report.is_good_enough([*good, chatty], 0.7)
    assert not report.is_good_enough([*good, lying], 0.6)


def test_selection(file: ScenarioFile) -> None:
    """Tags, tags to skip and ids narrow a run; nothing left is an error, not a success."""

    with pytest.raises(CannotEvaluate, match="more than one scenario T1, T2"):
        select([file, file], set(), set(), set())

    def ids(*rules: set[str]) -> list[str]:
        return [task.scenario.id for task in select([file], *rules)]

    assert ids(set(), set(), set()) == ["T1", "T2"]
    assert ids({"booking"}, set(), set()) == ["T1"]
    assert ids(set(), {"booking"}, set()) == ["T2"]
    assert ids(set(), set(), {"T2"}) == ["T2"]
    with pytest.raises(CannotEvaluate):
        ids({"kb"}, set(), set())
    with pytest.raises(CannotEvaluate, match="T9"):
        ids(set(), set(), {"T9"})


def test_all_faulty_files_are_named(tmp_path: Path) -> None:
    """One run shows everything that is wrong."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text("schema_version: 2", "utf-8")
    with pytest.raises(ScenarioError) as raised:
        load_files([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert "a.yaml" in str(raised.value)
    assert "b.yaml" in str(raised.value)


def test_the_command_says_what_it_cannot_use(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and a reason for a file that is none."""
    assert main([str(tmp_path / "absent.yaml")]) == 2
    assert "absent.yaml" in capfd.readouterr().err


def test_commits_are_read() -> None:
    """Each kind of the simulator's commit log in our words."""
    (booked,) = read_commit(commit(1, "schedule", after="2026-03-16T10:00:00"))
    assert (booked.endpoint, booked.project_id, booked.date, booked.time) == (
        "schedule",
        "410001",
        "2026-03-16",
        "10:00",
    )
    (noted,) = read_commit(commit(2, "add_note", note={"note_text": "hi"}))
    assert (noted.note_text, noted.previous_start) == ("hi", None)
    changes = [
        {"project_id": key, "after": {"team": "Team B", "date": "2026-03-17", "start": "08:00"}} for key in ("1", "2")
    ]
    assigned = read_commit(commit(3, "assign", assignments=changes))
    assert [(each.project_id, each.team) for each in assigned] == [("1", "Team B"), ("2", "Team B")]


def test_unclear_answers_keep_the_earlier_question() -> None:
    """A reask without `pending` means the one asked before."""
    turns = [{"user": "a", "gate": "ask", "pending": {"tool": "add_note"}}, {"user": "b", "gate": "reask"}]
    scenario = Scenario.model_validate({"id": "x", "persona": "c1", "turns": turns})
    assert scenario.pending_at(1) == scenario.pending_at(0) != ()
