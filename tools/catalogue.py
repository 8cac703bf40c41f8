"""All actions of the assistant, in the order in which they are offered."""

from __future__ import annotations

from tools import handover, information, notes, scheduling
from tools.action import by_name

CUSTOMER_ACTIONS = tuple(
    by_name((*scheduling.ACTIONS, *information.ACTIONS, *notes.ACTIONS, *handover.ACTIONS)).values()
)
