"""A product that always does what the scenario wants: it turns a scenario into a conversation that passes.

Mutating either side of such a pair shows what the evaluator notices.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from backend.evaluation.judge import Case
from backend.evaluation.matching import arguments_match
from backend.evaluation.scenario import ExpectedAction, ExpectedTurn, Scenario, ScenarioFile
from backend.evaluation.transcript import GATED, Commit, FinalState, ObservedTurn, Pending, ToolCall, Transcript
from backend.evaluation.world import View, World

TYPE_AND_CATEGORY = "{p.category} {p.type} at {p.address1}"


def case_for(file: ScenarioFile, scenario: Scenario) -> Case:
    """The scenario with a conversation that fulfils it to the letter."""
    view = World(file.fixture).view(scenario.persona)
    return Case(scenario, file.defaults, view, Oracle(scenario, view).play())


class Oracle:
    """Plays one scenario."""

    def __init__(self, scenario: Scenario, view: View) -> None:
        self.scenario, self.view = scenario, view
        self.open: tuple[Pending, ...] = ()
        self.to_write = list(scenario.write_lists[0])
        self.starts: dict[str, str | None] = {key: project.start for key, project in view.world.projects.items()}
        self.statuses = {key: project.status for key, project in view.world.projects.items()}
        self.notes: dict[str, int] = {}
        for note in view.world.fixture["notes"]:
            self.notes[note["project_id"]] = self.notes.get(note["project_id"], 0) + 1
        self.assignments = {
            str(row["project_id"]): row["assigned"]["team"]
            for row in view.world.fixture["queue"]
            if row.get("assigned")
        }

    def play(self) -> Transcript:
        turns = tuple(self._turn(number, turn) for number, turn in enumerate(self.scenario.turns))
        projects = {key: {"status": self.statuses[key], "start": start} for key, start in self.starts.items()}
        wanted = self.scenario.end_states[0] if self.scenario.end_states else None
        if wanted and not any(turn.commits for turn in turns):
            # what faults or the office do is not the product's doing
            for key, expected in wanted.projects.items():
                projects[key] |= {name: getattr(expected, name) for name in expected.model_fields_set}
        return Transcript(
            turns, FinalState(projects, dict(self.notes), dict(self.assignments)), {"double_booked_slots": 0}
        )

    def _turn(self, number: int, expected: ExpectedTurn) -> ObservedTurn:
        before = self.open
        gate = next(gate for gate in expected.gate if before or gate != "act")
        calls = [
            ToolCall(call.tools[0], _concrete_args(call.args))
            for call in expected.calls
            if gate == "act" or not (call.optional and call.tools[0] in GATED)
        ]
        if gate == "act":
            calls = [self._as_stored(call) for call in calls]
            if not any(call.tool in GATED or call.tool == "add_note" for call in calls):
                calls += [ToolCall(pending.tool, dict(pending.args)) for pending in before]
        commits = [commit for call in calls for commit in self._commits(call)]
        ran = {(call.tool, call.args.get("project_id")) for call in calls}
        if gate in ("ask", "reask"):
            actions = self.scenario.pending_at(number)
            self.open = tuple(
                Pending(f"p{number}-{index}", action.tool, _concrete_args(action.args))
                for index, action in enumerate(actions)
            )
            calls += [ToolCall(p.tool, p.args, "pending") for p in self.open]
        elif gate == "drop":
            self.open = ()
        else:
            self.open = tuple(p for p in before if (p.tool, p.args.get("project_id")) not in ran)
        text = self._reply(number, expected, gate)
        return ObservedTurn(
            user=expected.user,
            text=text,
            specialist=expected.route[0] if expected.route else "scheduling",
            calls=tuple(calls),
            pending_before=before,
            pending=self.open,
            citations=expected.kb[:1],
            parts=(text,),
            commits=tuple(commits),
            now=self.view.world.now,
        )

    def _as_stored(self, call: ToolCall) -> ToolCall:
        """A yes runs the stored arguments."""
        fitting = [
            p for p in self.open if p.tool == call.tool and p.args.get("project_id") == call.args.get("project_id")
        ]
        return replace(call, args={**fitting[0].args, **call.args}) if fitting else call

    def _commits(self, call: ToolCall) -> Sequence[Commit]:
        """What the simulator commits: only what the scenario wants to see written."""
        wanted = next((w for w in self.to_write if w.tool == call.tool and arguments_match(w.args, call.args)), None)
        if wanted is None:
            return ()
        self.to_write.remove(wanted)
        args, project = call.args, str(call.args.get("project_id"))
        if call.tool == "add_note":
            self.notes[project] = self.notes.get(project, 0) + 1
            return (Commit("add_note", project, note_text=args["note_text"]),)
        if call.tool == "cancel_appointment":
            self.statuses[project], old, self.starts[project] = "Ready To Schedule", self.starts[project], None
            return (Commit("cancel", project, previous_start=old),)
        if call.tool == "bulk_assign_teams":
            self.assignments |= {str(item): args["team"] for item in args["project_ids"]}
            day = (args.get("date_range") or ["2026-03-12"])[0]
            return tuple(Commit("assign", str(item), date=day, team=args["team"]) for item in args["project_ids"])
        day, time = args.get("date") or args["new_date"], args.get("time") or args["new_time"]
        old, self.starts[project] = self.starts[project], f"{day}T{time}:00"
        self.statuses[project] = "Tentatively Scheduled"
        taken = Commit("schedule", project, date=day, time=time)
        return (
            (taken,)
            if call.tool == "confirm_appointment"
            else (Commit("cancel_reschedule", project, previous_start=old), taken)
        )

    def _reply(self, number: int, expected: ExpectedTurn, gate: str) -> str:
        atoms = [*expected.say, *expected.say_any[:1]]
        lines = [self._rendered(atom) for atom in atoms]
        if gate in ("ask", "reask"):
            lines += [self._restated(action) for action in self.scenario.pending_at(number)]
        asks = gate in ("ask", "reask", "clarify")
        written = any("?" in line for line in lines)
        return "\n".join([*lines, "Is that right?" if asks and not written else "That is how it is."])

    def _restated(self, action: ExpectedAction) -> str:
        args = _concrete_args(action.args)
        words = [self._rendered(f"project:{args['project_id']}")] if args.get("project_id") else []
        words += [self._rendered(f"date:{args[name]}") for name in ("date", "new_date") if args.get(name)]
        words += [self._rendered(f"time:{args[name]}") for name in ("time", "new_time") if args.get(name)]
        words += [self._rendered(f"date:{day}") for day in args.get("date_range", ())]
        words += [str(args[name]) for name in ("team", "note_text") if args.get(name)]
        start = self.starts.get(str(args.get("project_id")))
        if start and action.tool in ("cancel_appointment", "reschedule_appointment"):
            words.append(self._rendered(f"date:{start[:10]}"))
        return ", ".join(words)

    def _rendered(self, atom: str) -> str:
        kind, _, value = atom.partition(":")
        if kind == "date":
            return f"{date.fromisoformat(value):%A, %B %-d}"
        if kind == "time":
            hour, minute = int(value[:2]), value[3:]
            return f"{(hour - 1) % 12 + 1}:{minute} {'AM' if hour < 12 else 'PM'}"
        if kind == "project":
            project = self.view.projects.get(value)
            return TYPE_AND_CATEGORY.format(p=project) if project and project.address1 else value
        if kind == "url":
            return self.view.portal_url(value)
        return value if kind == "phone" else sample(value)


def _concrete_args(args: dict[str, Any]) -> dict[str, Any]:
    values = {name: _concrete(value) for name, value in args.items()}
    return {name: value for name, value in values.items() if value is not None}


def _concrete(expected: Any) -> Any:
    if isinstance(expected, dict):
        kind, values = next(iter(expected.items()))
        return {"contains": " and ".join(map(str, values)), "set": list(values)}.get(kind, _concrete(values[0]))
    return "whatever" if expected == "*" else expected


def sample(pattern: str) -> str:
    """Some text that a regular expression finds."""
    parser = re._parser  # type: ignore[attr-defined]
    return _grow(parser.parse(pattern, re.IGNORECASE))


def _grow(tree: Any) -> str:
    pieces = []
    for op, arg in tree:
        name = str(op)
        if name == "LITERAL":
            pieces.append(chr(arg))
        elif name == "NOT_LITERAL":
            pieces.append("x")
        elif name == "ANY":
            pieces.append("'")
        elif name == "IN":
            pieces.append(_member(arg))
        elif name == "BRANCH":
            pieces.append(_grow(arg[1][0]))
        elif name == "SUBPATTERN":
            pieces.append(_grow(arg[3]))
        elif name in ("MAX_REPEAT", "MIN_REPEAT"):
            pieces.append(_grow(arg[2]) * arg[0])
    return "".join(pieces)


def _member(options: Any) -> str:
    kind, value = options[0]
    if str(kind) == "NEGATE":
        return "x"
    if str(kind) == "RANGE":
        return chr(value[0])
    if str(kind) == "CATEGORY":
        return {"CATEGORY_DIGIT": "7", "CATEGORY_SPACE": " "}.get(str(value), "w")
    return chr(value)
