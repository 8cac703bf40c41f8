"""Driving conversations: over the product's public API, with the simulator's account of what really happened."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from agent.errors import NotOnTape
from backend.evaluation.judge import Case, Verdict, judge
from backend.evaluation.scenario import Scenario, ScenarioFile
from backend.evaluation.simulator_admin import JsonObject, SimulatorAdmin, moment
from backend.evaluation.transcript import ObservedTurn, Pending, Spent, ToolCall, Transcript
from backend.evaluation.world import World

TURN_TIMEOUT_S = 120.0
# After so many failures a careful product leaves its upstream alone for some seconds. That belongs to the conversation
# that met them, not to the next one.
FAULTS_TO_RECOVER_FROM, RECOVERY_S = 8, 5.5


@dataclass(frozen=True, slots=True)
class Subject:
    """One running product with the simulator behind it."""

    api: httpx.AsyncClient
    simulator: SimulatorAdmin


@dataclass(frozen=True, slots=True)
class Task:
    """One scenario to run, with what its file says for all."""

    file: ScenarioFile
    scenario: Scenario


@dataclass(frozen=True, slots=True)
class Outcome:
    """A judged conversation."""

    task: Task
    transcript: Transcript
    verdict: Verdict
    duration_s: float


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the judge knows of the product beside its answers."""

    documents: Mapping[str, str]
    instructions: tuple[str, ...]


OpenSubject = Callable[[], AbstractAsyncContextManager[Subject]]


async def run_all(
    tasks: Sequence[Task], subjects: Sequence[OpenSubject], knowledge: Knowledge
) -> AsyncIterator[Outcome]:
    """Run the tasks, each on the first subject that is free; outcomes come as they are done."""
    waiting: asyncio.Queue[Task] = asyncio.Queue()
    for task in tasks:
        waiting.put_nowait(task)
    done: asyncio.Queue[Outcome | BaseException | None] = asyncio.Queue()
    workers = [asyncio.create_task(_work(open_subject, waiting, done, knowledge)) for open_subject in subjects]
    try:
        idle = 0
        while idle < len(workers):
            item = await done.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                idle += 1
            else:
                yield item
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _work(
    open_subject: OpenSubject,
    waiting: asyncio.Queue[Task],
    done: asyncio.Queue[Outcome | BaseException | None],
    knowledge: Knowledge,
) -> None:
    try:
        async with open_subject() as subject:
            while not waiting.empty():
                done.put_nowait(outcome := await run_task(waiting.get_nowait(), subject, knowledge))
                if outcome.transcript.faulted >= FAULTS_TO_RECOVER_FROM and not waiting.empty():
                    await asyncio.sleep(RECOVERY_S)
        done.put_nowait(None)
    except Exception as error:  # noqa: BLE001 - handed to the caller, who raises it
        done.put_nowait(error)


async def run_task(task: Task, subject: Subject, knowledge: Knowledge) -> Outcome:
    """One conversation from a fresh seed, judged."""
    started = time.monotonic()
    transcript = await converse(task, subject)
    view = World(task.file.fixture).view(task.scenario.persona)
    case = Case(task.scenario, task.file.defaults, view, transcript, knowledge.documents, knowledge.instructions)
    return Outcome(task, transcript, judge(case), time.monotonic() - started)


async def converse(task: Task, subject: Subject) -> Transcript:
    """Send the user's messages one by one; a new conversation, a fresh seed, faults and clock as the scenario says."""
    scenario, simulator = task.scenario, subject.simulator
    await simulator.reset(task.file.fixture if task.file.inline else None)
    turns: list[ObservedTurn] = []
    session_id, seen_commits, seen_requests, faulted = "", 0, 0, 0
    pending: tuple[Pending, ...] = ()
    for number, expected in enumerate(scenario.turns, start=1):
        for step in scenario.clock:
            if step.before_turn == number:
                await simulator.advance(step.advance_seconds)
        await simulator.arm([fault for fault in scenario.faults if fault.before_turn == number])
        body: JsonObject = {"message": expected.user, **({"session_id": session_id} if session_id else {})}
        started = time.monotonic()
        answer = await _send(subject.api, scenario.persona, body, scope_of(task))
        duration_s = time.monotonic() - started
        commits, seen_commits = await simulator.commits(seen_commits)
        requests, faulted = await simulator.requests()
        turn = read_answer(expected.user, answer, pending)
        session_id, pending = answer.get("session_id") or session_id, turn.pending
        turns.append(
            replace(
                turn,
                commits=tuple(commits),
                requests=tuple(requests[seen_requests:]),
                now=moment(await simulator.clock()),
                duration_s=duration_s,
            )
        )
        seen_requests = len(requests)
    state, tickets = await simulator.state()
    return Transcript(tuple(turns), state, await simulator.invariants(), tickets, session_id, faulted)


def scope_of(task: Task) -> str:
    """The correlation id of a scenario's requests: `file.id`. Log lines bear it, and tapes are kept by it."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", f"{Path(task.file.path).stem}.{task.scenario.id}")[-64:]


async def _send(api: httpx.AsyncClient, persona: str, body: JsonObject, scope: str) -> JsonObject:
    """The answer's JSON; a refusal becomes `{error, text}`."""
    headers = {"x-demo-identity": persona, "x-correlation-id": scope}
    try:
        response = await api.post("/api/v1/chat", json=body, headers=headers, timeout=TURN_TIMEOUT_S)
    except httpx.HTTPError as error:
        return {"error": repr(error), "text": ""}
    try:
        answer = response.json()
    except ValueError:
        return {"error": f"{response.status_code}, no JSON", "text": response.text[:500]}
    if response.status_code != 200 or not isinstance(answer, dict):
        known = answer if isinstance(answer, dict) else {}
        hint = known.get("user_hint") or known.get("detail") or ""
        why = f": {hint}" if known.get("code") == NotOnTape.code else ""
        return {
            "error": f"{response.status_code} {known.get('code', '')}{why}".strip(),
            "text": hint,
            "session_id": known.get("session_id"),
        }
    return answer


def read_answer(user: str, answer: JsonObject, before: tuple[Pending, ...]) -> ObservedTurn:
    """One answer of the chat API; after a failed turn, what waited before still waits."""
    failed = "error" in answer
    open_now = tuple(
        Pending(str(p["pending_id"]), p["tool"], dict(p["args"])) for p in answer.get("pending_actions") or ()
    )
    return ObservedTurn(
        user=user,
        text=str(answer.get("text") or ""),
        specialist=str(answer.get("specialist") or ""),
        status=str(answer.get("status") or ("failed" if failed else "")),
        calls=tuple(
            ToolCall(call["tool"], dict(call.get("args") or {}), call.get("status", "ok"))
            for call in answer.get("tool_calls") or ()
        ),
        pending_before=before,
        pending=before if failed else open_now,
        citations=tuple(dict.fromkeys(str(c["document_id"]) for c in answer.get("citations") or ())),
        parts=tuple(answer.get("parts") or ()),
        error=str(answer["error"]) if failed else None,
        spent=_spent(answer.get("usage") or {}),
    )


def _spent(usage: JsonObject) -> Spent:
    return Spent(
        int(usage.get("model_calls") or 0),
        int(usage.get("input_tokens") or 0),
        int(usage.get("output_tokens") or 0),
        float(usage.get("cost_usd") or 0.0),
    )
