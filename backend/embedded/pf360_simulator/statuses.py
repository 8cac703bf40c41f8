"""Project statuses, in the six groups on which eligibility depends."""

from __future__ import annotations

from typing import Final, Literal

StatusGroup = Literal["schedulable", "scheduled", "blocked", "hold", "terminal", "unknown"]

READY: Final = "Ready To Schedule"
TENTATIVE: Final = "Tentatively Scheduled"
SCHEDULED: Final = "Scheduled"
PENDING_RESCHEDULE: Final = "Pending Reschedule"

_GROUPS: Final[dict[StatusGroup, tuple[str, ...]]] = {
    "schedulable": ("new", "not scheduled", "ready to schedule", "ready for auto call", "pending reschedule"),
    "scheduled": (
        "scheduled",
        "tentatively scheduled",
        "customer scheduled",
        "store scheduled",
        "install scheduled",
        "hdms scheduled",
    ),
    "blocked": ("in progress", "pending confirmation"),
    "hold": (
        "on hold",
        "pending",
        "waiting for product",
        "missing product",
        "product ordered",
        "waiting for permit",
        "needs permit",
    ),
    "terminal": (
        "completed",
        "work complete",
        "done",
        "cancelled",
        "closed",
        "archived",
        "refunded",
        "support requested",
    ),
}
_GROUP_OF: Final = {name: group for group, names in _GROUPS.items() for name in names}


def status_group(status: str) -> StatusGroup:
    """The group of a status as the upstream spells it; paused variants count as their hold."""
    name = status.strip().casefold()
    if name.startswith("paused"):
        return "hold"
    return _GROUP_OF.get(name, "unknown")
