"""All actions of the assistant, in the order in which they are offered."""

from __future__ import annotations

from tools import coordination, handover, information, knowledge, notes, scheduling
from tools.action import by_name

ACTIONS = tuple(
    by_name(
        (
            *scheduling.ACTIONS,
            *information.ACTIONS,
            *knowledge.ACTIONS,
            *notes.ACTIONS,
            *handover.ACTIONS,
            *coordination.ACTIONS,
        )
    ).values()
)
