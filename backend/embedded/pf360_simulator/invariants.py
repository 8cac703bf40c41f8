"""Counts that must all be zero, however the product was interrupted."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from .state import UpstreamState

LOST_AFTER_S = 600.0


def invariants(state: UpstreamState, now: datetime, lost_after_s: float = LOST_AFTER_S) -> dict[str, int]:
    """Broken promises in this state, by name.

    `lost_appointments` are those released by E7 at least `lost_after_s` ago (simulator's clock) and neither booked,
    restored nor cancelled since.
    """
    return {
        "double_booked_slots": _double_booked(state),
        "projects_with_two_appointments": sum(len(p.slots_held()) > 1 for p in state.projects.values()),
        "writes_without_request": state.breaches["writes_without_request"],
        "duplicate_notes_5s": state.breaches["duplicate_notes_5s"],
        "writes_outside_scope": state.breaches["writes_outside_scope"],
        "lost_appointments": sum(
            p.released_at is not None and now.timestamp() - p.released_at > lost_after_s
            for p in state.projects.values()
        ),
    }


def _double_booked(state: UpstreamState) -> int:
    """Slots with two owners: a project and a stranger or, where capacity is shared, two projects of a client."""
    held = [(project, slot) for project in state.projects.values() for slot in project.slots_held()]
    doubled = sum((project.project_id, slot) in state.taken for project, slot in held)
    if state.switches.shared_capacity:
        owners = Counter((project.client_id, slot) for project, slot in held)
        doubled += sum(count - 1 for count in owners.values())
    return doubled
