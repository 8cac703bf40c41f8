"""What the simulator committed, told in the words of the product's tools, and compared with what should have been."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.evaluation.matching import arguments_match, as_clock
from backend.evaluation.transcript import Commit, ObservedTurn, ToolCall

if TYPE_CHECKING:
    from backend.evaluation.scenario import ExpectedAction

JsonObject = dict[str, Any]

RELEASE = "(release without a new slot)"  # the first half of a move; no tool ends with it


@dataclass(frozen=True, slots=True)
class Write:
    """One committed change. `requested` are the arguments of the call behind it, where there is one."""

    tool: str
    args: JsonObject
    turn: int  # from 0
    requested: JsonObject | None = None

    def fits(self, expected: ExpectedAction) -> bool:
        """Whether this is the expected change."""
        if self.tool != expected.tool:
            return False
        if arguments_match(expected.args, self.args):
            return True
        # A bulk assignment may leave out items that cannot be assigned: the request itself is as good.
        requested = self.tool == "bulk_assign_teams" and self.requested is not None
        return requested and arguments_match(expected.args, self.requested or {})

    def __str__(self) -> str:
        return f"{self.tool}({', '.join(f'{name}={value!r}' for name, value in self.args.items())})"


def writes_of(turns: Sequence[ObservedTurn]) -> list[Write]:
    """Changes in order. A release and then a booking of the same project is a move; back to the old slot: nothing."""
    writes: list[Write] = []
    released: dict[str, tuple[str | None, int]] = {}  # project -> (old start, turn)
    for number, turn in enumerate(turns):
        used: set[int] = set()
        for position, commit in enumerate(turn.commits):
            project = commit.project_id
            if commit.endpoint == "cancel_reschedule":
                released[project] = (commit.previous_start, number)
            elif commit.endpoint == "schedule" and project in released:
                old, _ = released.pop(project)
                if not _is_start(old, commit):
                    writes.append(_move(turn, number, commit))
            elif commit.endpoint == "schedule":
                writes.append(_booking(turn, number, commit))
            elif commit.endpoint == "cancel":
                released.pop(project, None)
                writes.append(_cancellation(turn, number, commit))
            elif commit.endpoint == "add_note":
                if not _is_cancel_reason(turn, position, used):
                    writes.append(_note(turn, number, commit))
            elif commit.endpoint == "assign":
                if commit.team not in (earlier.team for earlier in turn.commits[:position]):
                    writes.append(_assignment(turn, number, commit.team))
            else:
                writes.append(Write(commit.endpoint, {"project_id": project}, number))
    writes += [Write(RELEASE, {"project_id": project}, number) for project, (_, number) in released.items()]
    return writes


def matched(expected: Sequence[ExpectedAction], writes: Sequence[Write], *, any_order: bool) -> int:
    """How many of the writes can be given an expected one of their own (in order, unless in any)."""
    if not any_order:
        lengths = [[0] * (len(writes) + 1) for _ in range(len(expected) + 1)]
        for i, want in enumerate(expected, start=1):
            for j, write in enumerate(writes, start=1):
                together = lengths[i - 1][j - 1] + 1 if write.fits(want) else 0
                lengths[i][j] = max(together, lengths[i - 1][j], lengths[i][j - 1])
        return lengths[-1][-1]
    owner: dict[int, int] = {}  # index of the expected -> index of the write

    def place(write: int, tried: set[int]) -> bool:
        for index, want in enumerate(expected):
            if index not in tried and writes[write].fits(want):
                tried.add(index)
                if index not in owner or place(owner[index], tried):
                    owner[index] = write
                    return True
        return False

    return sum(place(write, set()) for write in range(len(writes)))


def _is_start(start: str | None, commit: Commit) -> bool:
    return start is not None and start[:10] == commit.date and as_clock(start[11:]) == commit.time


def _call_behind(turn: ObservedTurn, tool: str, commit: Commit) -> ToolCall | None:
    for call in turn.calls:
        if call.tool == tool and call.ran and str(call.args.get("project_id")) == commit.project_id:
            return call
    return None


def _effective(call: ToolCall | None, committed: JsonObject) -> JsonObject:
    """The call's arguments, overruled by what was really committed."""
    return {**(call.args if call else {}), **committed}


def _booking(turn: ObservedTurn, number: int, commit: Commit) -> Write:
    call = _call_behind(turn, "confirm_appointment", commit)
    committed = {"project_id": commit.project_id, "date": commit.date, "time": commit.time}
    return Write("confirm_appointment", _effective(call, committed), number)


def _move(turn: ObservedTurn, number: int, commit: Commit) -> Write:
    call = _call_behind(turn, "reschedule_appointment", commit)
    committed = {"project_id": commit.project_id, "new_date": commit.date, "new_time": commit.time}
    return Write("reschedule_appointment", _effective(call, committed), number)


def _cancellation(turn: ObservedTurn, number: int, commit: Commit) -> Write:
    """The reason is the call's; without one, what the note beside the cancellation says."""
    call = _call_behind(turn, "cancel_appointment", commit)
    args = _effective(call, {"project_id": commit.project_id})
    if args.get("reason") is None:
        notes = [c.note_text for c in turn.commits if c.endpoint == "add_note" and c.project_id == commit.project_id]
        args["reason"] = notes[0] if notes and not _call_behind(turn, "add_note", commit) else None
    return Write("cancel_appointment", args, number)


def _is_cancel_reason(turn: ObservedTurn, position: int, used: set[int]) -> bool:
    """Whether a note was left by a cancellation before it in the same turn, not by a call of its own."""
    note = turn.commits[position]
    asked_for = any(
        call.tool == "add_note"
        and call.ran
        and str(call.args.get("project_id")) == note.project_id
        and str(call.args.get("note_text", "")).strip() == (note.note_text or "").strip()
        for call in turn.calls
    )
    if asked_for:
        return False
    for earlier, commit in enumerate(turn.commits[:position]):
        if commit.endpoint == "cancel" and commit.project_id == note.project_id and earlier not in used:
            used.add(earlier)  # one reason a cancellation
            return True
    return False


def _note(turn: ObservedTurn, number: int, commit: Commit) -> Write:
    call = _call_behind(turn, "add_note", commit)
    return Write("add_note", _effective(call, {"project_id": commit.project_id, "note_text": commit.note_text}), number)


def _assignment(turn: ObservedTurn, number: int, team: str | None) -> Write:
    """All assignments of one team in one turn, in the form of the tool's arguments."""
    items = [commit for commit in turn.commits if commit.endpoint == "assign" and commit.team == team]
    call = next((c for c in turn.calls if c.tool == "bulk_assign_teams" and c.ran and c.args.get("team") == team), None)
    days = sorted(item.date or "" for item in items)
    committed = {"project_ids": [item.project_id for item in items], "team": team}
    args = {"date_range": [days[0], days[-1]], **_effective(call, committed)}
    return Write("bulk_assign_teams", args, number, requested=call.args if call else None)
