"""All actions of the assistant, in the order in which they are offered."""

from __future__ import annotations

from tools import coordination, handover, information, notes, scheduling
from tools.action import by_name

ACTIONS = tuple(
    by_name(
        (*scheduling.ACTIONS, *information.ACTIONS, *notes.ACTIONS, *handover.ACTIONS, *coordination.ACTIONS)
    ).values()
)
