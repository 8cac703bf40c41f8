"""What code says of the effects of a turn, when no model has said it."""

from __future__ import annotations

from agent.pending import receipt
from agent.turn import Turn


def tell_outcomes(turn: Turn) -> None:
    """Say in plain words how the effects of this turn ended."""
    for outcome in turn.untold or turn.outcomes:
        match outcome.result.status:
            case "ok" if outcome.was_only_tried:
                text = turn.wording.phrase("nothing_executed")
            case "ok":
                text = receipt(turn, outcome.tool, outcome.args, outcome.facts)
            case "unknown":
                text = turn.wording.phrase("unknown_outcome")
            case _:
                text = turn.wording.phrase("not_done", hint=outcome.result.data.get("user_hint", ""))
        turn.say_paragraph(text)
    turn.untold.clear()
