"""Pending actions: how a gated call is stored, told to the judge, and put to the person.

What a person reads before a yes is rendered here, by code, from the stored facts. No model words it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date, time, timedelta
from typing import Any
from uuid import uuid4

from agent.confirmation import PendingView
from agent.ports import PendingAction
from agent.providers.base import PendingFacts
from agent.transcript import AssistantMessage, JsonObject, ToolCall
from agent.turn import Turn
from tools.contract import Prepared

_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::\d{2})?\s*(?:([AP])\.?M\.?)?", re.IGNORECASE)
# Facts that describe the object but do not name it.
_NO_LABELS = ("weekday", "reason", "note_text", "status")


def open_pending(turn: Turn, call: ToolCall, prepared: Prepared) -> PendingAction:
    """Store a gated call that passed every check; the same one twice is one."""
    for earlier in turn.proposed:
        if (earlier.tool, earlier.args) == (call.name, prepared.args):
            return earlier
    now = turn.given.tools.clock.now()
    facts = _facts(turn, call.name, prepared.args, prepared.restatement)
    pending = PendingAction(
        pending_id=uuid4(),
        call_id=call.id,
        tool=call.name,
        args=prepared.args,
        restatement=prepared.restatement,
        summary=turn.wording.restatements[call.name].render(facts).strip(),
        created_at=now,
        expires_at=now + timedelta(minutes=turn.definition.file.limits.pending_minutes),
    )
    turn.proposed.append(pending)
    return pending


def ask_for_yes(turn: Turn, pendings: Sequence[PendingAction]) -> str:
    """The restatement of what waits, and one question. Several are numbered."""
    again = all(pending in turn.given.pending for pending in pendings)
    phrase = turn.wording.phrase
    if len(pendings) == 1:
        only = pendings[0]
        question = turn.wording.questions[only.tool].render(
            {"reason": None, **_facts(turn, only.tool, only.args, only.restatement), "again": again}
        )
        lead = f"{phrase('still_open')} " if again else ""
        return f"{lead}{only.summary} {question.strip()}"
    lines = [f"{n}. {pending.summary}" for n, pending in enumerate(pendings, 1)]
    lead = phrase("still_open" if again else "several")
    return "\n".join((lead, *lines, "", phrase("question_all")))


def receipt(turn: Turn, tool: str, args: JsonObject, restatement: JsonObject) -> str:
    """What code says of an effect that is done, when no model says it."""
    template = turn.wording.receipts.get(tool)
    if template is None or not (args or restatement):
        return turn.wording.phrase("saved")
    return template.render(_facts(turn, tool, args, restatement)).strip()


def _facts(turn: Turn, tool: str, args: JsonObject, restatement: JsonObject) -> JsonObject:
    """What templates may use: the arguments, the facts of the restatement, and plain words for tools without any."""
    spec = turn.specs.get(tool)
    shown = spec.parameters.get("properties", {}) if spec else {}
    title = spec.description.strip().partition("\n")[0].partition(". ")[0].rstrip(".") if spec else tool
    arguments = [{"name": name.replace("_", " "), "value": value} for name, value in args.items() if name in shown]
    return {"title": title, "arguments": arguments, **args, **restatement}


def facts_of(pendings: Sequence[PendingAction]) -> tuple[PendingFacts, ...]:
    """Open pending actions as the answering side may know them."""
    return tuple(PendingFacts(p.tool, p.args, p.summary, p.restatement) for p in pendings)


def views(turn: Turn) -> list[PendingView]:
    """Stored pending actions as the judge of the user's message needs them."""
    said = next((m.text for m in reversed(turn.given.history) if isinstance(m, AssistantMessage) and m.text), "")
    several = len(turn.open) > 1
    return [_view(turn, p, said, str(n) if several else "") for n, p in enumerate(turn.open, 1)]


def _view(turn: Turn, pending: PendingAction, last_said: str, position: str) -> PendingView:
    # Nested facts ("old") tell where things stand today; agreeing to those is no yes to the new slot.
    days, times = moments([{**pending.restatement, **pending.args}], nested=False)
    return PendingView(
        pending_id=pending.pending_id,
        tool=pending.tool,
        verbs=turn.definition.file.gated[pending.tool].verbs,
        times=tuple(sorted(times)),
        dates=tuple(sorted(days)),
        labels=tuple(_labels(pending.restatement, position)),
        restated_last=pending.summary in last_said,
        expires_at=pending.expires_at,
        changes=turn.definition.file.gated[pending.tool].change_patterns,
    )


def _labels(restatement: JsonObject, position: str) -> Iterator[str]:
    """What a person may call the object by: its own texts and those one level down, and its number in the list."""
    if position:
        yield position
    for key, value in restatement.items():
        for name, text in value.items() if isinstance(value, dict) else ((key, value),):
            named = isinstance(text, str) and name not in _NO_LABELS and key != "old" and "://" not in text
            if named and _day(text) is None and _time(text) is None:
                yield text


def moments(facts: Sequence[Any], *, nested: bool = True) -> tuple[set[date], set[time]]:
    """All days and times of day that stand in JSON facts as values of their own."""
    leaves = [value for fact in facts for _, value in (_leaves(fact) if nested else fact.items())]
    return {d for v in leaves if (d := _day(v))}, {t for v in leaves if (t := _time(v)) is not None}


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _leaves(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value, key)
    else:
        yield key, node


def _day(value: Any) -> date | None:
    try:
        return date.fromisoformat(value) if isinstance(value, str) and len(value) == 10 else None
    except ValueError:
        return None


def _time(value: Any) -> time | None:
    match = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if not match:
        return None
    hour, minute, half = int(match[1]), int(match[2]), (match[3] or "").lower()
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    return time(hour, minute) if hour < 24 and minute < 60 else None
