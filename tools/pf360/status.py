"""Project statuses and what each group of them permits."""

from __future__ import annotations

from typing import Literal

StatusGroup = Literal["schedulable", "scheduled", "blocked", "hold", "terminal", "unknown"]

_GROUPS: dict[StatusGroup, tuple[str, ...]] = {
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
        "hold",
        "pending",
        "paused",
        "waiting for product",
        "missing product",
        "product ordered",
        "waiting for permit",
        "needs permit",
    ),
    "terminal": (
        "completed",
        "complete",
        "work complete",
        "work completed",
        "done",
        "finished",
        "cancelled",
        "canceled",
        "closed",
        "archived",
        "refunded",
        "support requested",
    ),
}

STATUS_GROUPS = frozenset((*_GROUPS, "unknown"))
_GROUP_OF: dict[str, StatusGroup] = {status: group for group, members in _GROUPS.items() for status in members}

# How to say to a customer why a project cannot be booked now.
_REASONS: dict[str, str] = {
    "waiting for permit": "it is still waiting for a permit",
    "needs permit": "it still needs a permit",
    "waiting for product": "the product has not arrived yet",
    "missing product": "part of the product is missing",
    "product ordered": "the product is on order and has not arrived yet",
    "on hold": "it is on hold",
    "hold": "it is on hold",
    "paused": "it is on hold",
    "pending": "it is on hold",
    "in progress": "the work is already in progress",
    "pending confirmation": "the office is still confirming it",
    "cancelled": "the project was cancelled",
    "canceled": "the project was cancelled",
    "closed": "the project is closed",
    "archived": "the project is closed",
    "refunded": "the project was refunded",
    "support requested": "it is with the support team",
}


def status_group(status: str) -> StatusGroup:
    """The group of a status text, compared without case and outer or doubled blanks."""
    text = " ".join(status.casefold().split())
    group = _GROUP_OF.get(text)
    if group is None and (text.endswith("(paused)") or text.startswith(("paused", "on hold"))):
        return "hold"
    return group or "unknown"


def blocking_reason(status: str) -> str:
    """A clause that says why a project of this status cannot be booked ("it is on hold")."""
    text = " ".join(status.casefold().split())
    reason = _REASONS.get(text)
    if reason is not None:
        return reason
    return {"terminal": "it is already completed", "hold": "it is on hold"}.get(
        status_group(status), f"its status is {status.strip() or 'not known'}"
    )
