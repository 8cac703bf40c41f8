"""No expectation is idle: change any of them, or what was observed, and a conversation that passed fails.

For each scenario the perfect conversation is made, then one thing at a time is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from backend.evaluation.atoms import says
from backend.evaluation.judge import Case, judge
from backend.evaluation.scenario import (
    Defaults,
    EndState,
    ExpectedAction,
    ExpectedCall,
    ExpectedTurn,
    Never,
    Scenario,
    ScenarioFile,
)
from backend.evaluation.transcript import GATED, WRITES, Commit, ObservedTurn, Pending, ToolCall, Transcript
from tests.unit.evaluation_oracle import case_for
from tests.unit.test_evaluation_scenarios import EVERY

OTHER = {"confirm_appointment": "cancel_appointment"}
WRONG = {
    "date": "2026-05-29",
    "new_date": "2026-05-29",
    "time": "05:45",
    "new_time": "05:45",
    "reason": {"contains": ["xyzzy"]},
}
Mutant = tuple[str, Case]
# The public scenarios whole, every fifth of the others: the rest would take minutes and show nothing new.
SOME = [each for n, each in enumerate(EVERY) if n % 5 == 0 or str(each.id).startswith("P")]


@pytest.mark.parametrize(("file", "scenario"), SOME)
def test_changed_expectations_fail(file: ScenarioFile, scenario: Scenario) -> None:
    """Another call, gate, pending action, atom, document, write, end state or prohibition is noticed."""
    case = case_for(file, scenario)
    survivors = [name for name, mutant in changed_expectations(case) if judge(mutant).passed]
    assert survivors == []


@pytest.mark.parametrize(("file", "scenario"), SOME)
def test_changed_conversations_fail(file: ScenarioFile, scenario: Scenario) -> None:
    """A missing call, a further write, a commit too many or too few, a lost pending action, a slip of the tongue."""
    case = case_for(file, scenario)
    survivors = [name for name, mutant in changed_conversations(case) if judge(mutant).passed]
    assert survivors == []


# --- expectations -----------------------------------------------------------------------------------------------------


def changed_expectations(case: Case) -> Iterator[Mutant]:
    """One changed expectation each."""
    for number, (turn, seen) in enumerate(zip(case.scenario.turns, case.transcript.turns, strict=True)):
        for name, mutant in changed_turns(case, number, turn, seen):
            turns = (*case.scenario.turns[:number], mutant, *case.scenario.turns[number + 1 :])
            yield (
                f"turn {number + 1}: {name}",
                replace(case, scenario=case.scenario.model_copy(update={"turns": turns})),
            )
    for name, update in changed_scenarios(case):
        yield name, replace(case, scenario=case.scenario.model_copy(update=update))
    if any(turn.calls for turn in case.transcript.turns):
        yield "no call allowed", replace(case, defaults=Defaults(max_calls_per_turn=0))
    yield "defaults.never", replace(case, defaults=Defaults(never=(Never(reply_re="."),)))


def changed_turns(
    case: Case, number: int, turn: ExpectedTurn, seen: ObservedTurn
) -> Iterator[tuple[str, ExpectedTurn]]:
    """One change in one turn each."""
    others = {"scheduling", "information", "notes", "chitchat", "coordinator"} - {seen.specialist}
    yield "route", turn.model_copy(update={"route": tuple(others)})
    for name, calls in changed_calls(turn):
        yield name, turn.model_copy(update={"calls": calls})
    for gate in impossible_gates(seen):
        yield f"gate {gate}", turn.model_copy(update={"gate": (gate,)})
    if {"ask", "reask"} & set(turn.gate[:1]):
        for name, pending in changed_actions(case.scenario.pending_at(number)):
            yield f"pending {name}", turn.model_copy(update={"pending": pending})
    if turn.kb:
        yield "kb", turn.model_copy(update={"kb": ("another",)})
    yield "say", turn.model_copy(update={"say": (*turn.say, "re:xyzzy")})
    yield (
        "say_any",
        turn.model_copy(update={"say_any": ("re:xyzzy", "date:2026-05-29", "time:05:45", "phone:555-0199")}),
    )
    for atom in turn.say:
        yield f"say {atom} otherwise", turn.model_copy(update={"say": (other_atom(atom, seen, case),)})
        yield f"not_say {atom}", turn.model_copy(update={"not_say": (atom,)})


def changed_calls(turn: ExpectedTurn) -> Iterator[tuple[str, tuple[ExpectedCall, ...]]]:
    """Another tool, another argument, another order, one more, one write less."""
    calls = turn.calls
    for index, call in enumerate(calls):
        if call.optional:
            continue
        for name, changed in [
            ("tool", call.model_copy(update={"tool": "something_else", "one_of": ()})),
            *wrong_args(call),
        ]:
            yield f"call {index} {name}", (*calls[:index], changed, *calls[index + 1 :])
        if call.tool == "add_note" and "act" not in turn.gate:
            yield f"call {index} not asked for", (*calls[:index], *calls[index + 1 :])
    yield "a further call", (*calls, ExpectedCall(tool="get_weather", args={"location": "Nowhere"}))
    required = [call for call in calls if not call.optional]
    if not turn.any_order:
        for one, other in pairwise(required):
            if set(one.tools).isdisjoint(other.tools):
                swapped = {id(one): other, id(other): one}
                yield "order", tuple(swapped.get(id(call), call) for call in calls)


def wrong_args(call: ExpectedCall) -> Iterator[tuple[str, ExpectedCall]]:
    """Each argument in turn expected to be something else."""
    for name, value in call.args.items():
        if value != "*":
            yield f"argument {name}", call.model_copy(update={"args": {**call.args, name: WRONG.get(name, "xyzzy")}})


def impossible_gates(seen: ObservedTurn) -> set[str]:
    """Gates that what was observed cannot satisfy."""
    if any(call.tool in GATED and call.ran for call in seen.calls):
        return {"none", "ask", "reask", "drop", "clarify", "refuse"}
    if seen.fresh_pending:
        return {"none", "act", "drop", "clarify", "refuse"}
    impossible = {"act"} | ({"clarify"} if "?" not in seen.text else set())
    return impossible | ({"drop"} if seen.pending else {"ask", "reask"})


def changed_actions(actions: tuple[ExpectedAction, ...]) -> Iterator[tuple[str, tuple[ExpectedAction, ...]]]:
    """Another tool, another argument, one more, one less."""
    for index, action in enumerate(actions):
        before, after = actions[:index], actions[index + 1 :]
        yield (
            f"{index} tool",
            (*before, action.model_copy(update={"tool": OTHER.get(action.tool, "confirm_appointment")}), *after),
        )
        for name, value in action.args.items():
            if value != "*":
                wrong = action.model_copy(update={"args": {**action.args, name: WRONG.get(name, "xyzzy")}})
                yield f"{index} argument {name}", (*before, wrong, *after)
        yield f"{index} twice", (*before, action, action, *after)
        if len(actions) > 1:
            yield f"{index} missing", (*before, *after)


def other_atom(atom: str, seen: ObservedTurn, case: Case) -> str:
    """Something of the same kind that the reply does not say."""
    kind, _, _ = atom.partition(":")
    choices = {
        "date": ("date:2026-05-29",),
        "time": ("time:05:45",),
        "phone": ("phone:555-0199",),
        "project": tuple(f"project:{key}" for key in (*case.view.world.projects, *case.view.world.queue)),
        "url": tuple(f"url:{key}" for key in case.view.world.projects),
    }.get(kind, ())
    return next((choice for choice in choices if not says(choice, seen.text, case.view)), "re:xyzzy")


def changed_scenarios(case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    """Other writes, end states and prohibitions."""
    scenario = case.scenario
    committed = scenario.write_lists[0]
    for name, writes in changed_writes(scenario, committed):
        yield f"writes {name}", {"writes": writes, "writes_any": None}
        yield f"writes_any {name}", {"writes": None, "writes_any": (writes, (ExpectedAction(tool="add_note"),) * 3)}
    projects = next(iter(scenario.end_states), EndState()).projects
    for key in projects or ["410001"]:
        for update in ({"status": "Archived"}, {"start": "2026-05-29T05:45:00"}):
            state = EndState.model_validate({"projects": {key: update}})
            yield f"end_state {key} {update}", {"end_state": state, "end_state_any": ()}
            yield f"end_state_any {key} {update}", {"end_state": None, "end_state_any": (state, state)}
    yield "end_state notes", {"end_state": EndState(notes={"410001": 99}), "end_state_any": ()}
    yield "end_state assignments", {"end_state": EndState(assignments={"500101": "Team X"}), "end_state_any": ()}
    for turn in case.transcript.turns:
        for call in turn.calls:
            if call.status != "pending":
                yield f"never {call.tool}", {"never": (Never(tool=call.tool),)}
                yield f"never {call.tool} with args", {"never": (Never(tool=call.tool, args=dict(call.args)),)}
        yield "never reply_re", {"never": (Never(reply_re="."),)}


def changed_writes(
    scenario: Scenario, committed: tuple[ExpectedAction, ...]
) -> Iterator[tuple[str, tuple[ExpectedAction, ...]]]:
    """What should have been committed, a little different."""
    yield "one more", (*committed, ExpectedAction(tool="add_note", args={"project_id": "410001"}))
    for index, write in enumerate(committed):
        before, after = committed[:index], committed[index + 1 :]
        yield f"{index} missing", (*before, *after)
        yield f"{index} twice", (*before, write, write, *after)
        yield f"{index} by another tool", (*before, write.model_copy(update={"tool": "release"}), *after)
        for name, value in write.args.items():
            if value != "*":
                wrong = write.model_copy(update={"args": {**write.args, name: WRONG.get(name, "xyzzy")}})
                yield f"{index} argument {name}", (*before, wrong, *after)
    if scenario.writes_order != "any":
        for one, other in pairwise(committed):
            if (one.tool, one.args.get("project_id")) != (other.tool, other.args.get("project_id")):
                swapped = {id(one): other, id(other): one}
                yield "order", tuple(swapped.get(id(write), write) for write in committed)


# --- conversations ----------------------------------------------------------------------------------------------------


def changed_conversations(case: Case) -> Iterator[Mutant]:
    """One change of what was observed each."""
    for number, turn in enumerate(case.transcript.turns):
        for name, mutant in changed_observations(case, number, turn):
            turns = (*case.transcript.turns[:number], mutant, *case.transcript.turns[number + 1 :])
            yield f"turn {number + 1}: {name}", replace(case, transcript=replace(case.transcript, turns=turns))
    yield "cut short", replace(case, transcript=Transcript(case.transcript.turns[:-1], case.transcript.state))
    broken = replace(case.transcript, invariants={"double_booked_slots": 1})
    yield "double booking", replace(case, transcript=broken)


def changed_observations(case: Case, number: int, turn: ObservedTurn) -> Iterator[tuple[str, ObservedTurn]]:
    """One change in one turn each."""
    expected = case.scenario.turns[number]
    for index, call in enumerate(turn.calls):
        fewer = (*turn.calls[:index], *turn.calls[index + 1 :])
        required = any(not want.optional and call.tool in want.tools for want in expected.calls)
        if required and not any(other.tool == call.tool for other in fewer):
            yield f"without {call.tool}", replace(turn, calls=fewer)
        if call.is_write:
            yield f"{call.tool} twice", replace(turn, calls=(*turn.calls, call))
            if "refuse" not in expected.gate:
                yield f"{call.tool} refused", replace(turn, calls=(*fewer, replace(call, status="refused")))
    for tool in sorted(WRITES - {call.tool for call in turn.calls}):
        extra = ToolCall(tool, {"project_id": "410001", "note_text": "x", "project_ids": ["500101"], "team": "Team A"})
        yield f"also {tool}", replace(turn, calls=(*turn.calls, extra))
    yield (
        "foreign call",
        replace(turn, calls=(*turn.calls, ToolCall("get_project_details", {"project_id": _foreign(case)}))),
    )
    yield "foreign request", replace(turn, requests=(f"/scheduler/client/x/project/{_foreign(case)}/schedule?",))
    for name, commits in changed_commits(case, turn):
        yield name, replace(turn, commits=commits)
    if turn.pending and {"ask", "reask"} >= set(expected.gate):
        yield "pending lost", replace(turn, pending=())
        yield (
            "one more pending",
            replace(turn, pending=(*turn.pending, Pending("x", "cancel_appointment", {"project_id": "1"}))),
        )
    elif not turn.pending:
        yield "pending too much", replace(turn, pending=(Pending("x", "cancel_appointment", {"project_id": "1"}),))
    yield "failed", replace(turn, error="500 internal_error")
    yield "cancelled", replace(turn, status="cancelled")
    for slip in slips(case):
        yield f"says {slip!r}", replace(turn, text=f"{turn.text}\n{slip}")


def changed_commits(case: Case, turn: ObservedTurn) -> Iterator[tuple[str, tuple[Commit, ...]]]:
    """A commit too many, too few, or of something else."""
    yield "a further booking", (*turn.commits, Commit("schedule", "410001", date="2026-03-31", time="12:30"))
    yield "a further cancellation", (*turn.commits, Commit("cancel", "410001"))
    yield "a further note", (*turn.commits, Commit("add_note", "410001", note_text="something else"))
    if not any(state.projects for state in case.scenario.end_states):
        yield "a release", (*turn.commits, Commit("cancel_reschedule", "410002", previous_start="2026-03-18T08:00:00"))
    for index, commit in enumerate(turn.commits):
        fewer = (*turn.commits[:index], *turn.commits[index + 1 :])
        if commit.endpoint == "assign":  # some of many may be left out, all of them may not
            fewer = tuple(each for each in fewer if each.endpoint != "assign")
        if commit.endpoint != "cancel_reschedule" or not any(state.projects for state in case.scenario.end_states):
            yield f"{commit.endpoint} lost", fewer
        yield f"{commit.endpoint} elsewhere", (*fewer, replace(commit, project_id="410009"))
        if commit.endpoint == "schedule":
            yield "another time", (*fewer, replace(commit, time="05:45"))
            yield "another day", (*fewer, replace(commit, date="2026-05-29"))


def slips(case: Case) -> Iterator[str]:
    """Sentences that no reply may hold."""
    yield "I've booked a visit for May 29."  # D4 and D5
    yield "The ticket is req-0123456789abcdef01234567."  # D3
    yield "I used list_projects for that."
    yield '{"tool": "x"}'
    yield "Call 555-0199."  # D6
    yield "Please tell me your customer ID."  # D7
    yield "Monday, March 17 would do."  # D5: a Tuesday
    yield "Tech 999 will come."
    yield f"There is also {_foreign(case)}."  # D2
    yield "Customer Nine sends regards? Or not?"  # D8
    if case.view.customer_id:
        yield f"You are {case.view.customer_id}."


def _foreign(case: Case) -> str:
    return "420002" if "420002" not in case.view.projects else "430001"
