"""Statuses and their groups."""

from __future__ import annotations

import pytest

from tools.pf360.status import StatusGroup, blocking_reason, status_group


@pytest.mark.parametrize(
    ("status", "group"),
    [
        ("New", "schedulable"),
        ("Not Scheduled", "schedulable"),
        ("  ready TO schedule ", "schedulable"),
        ("Ready for Auto Call", "schedulable"),
        ("Pending Reschedule", "schedulable"),
        ("Scheduled", "scheduled"),
        ("Tentatively  Scheduled", "scheduled"),
        ("HDMS Scheduled", "scheduled"),
        ("In Progress", "blocked"),
        ("Pending Confirmation", "blocked"),
        ("On Hold", "hold"),
        ("Pending", "hold"),
        ("Waiting for Permit", "hold"),
        ("Paused - Product Ordered", "hold"),
        ("Completed", "terminal"),
        ("Work Complete", "terminal"),
        ("Support Requested", "terminal"),
        ("Rescheduled By Moonlight", "unknown"),
        ("", "unknown"),
    ],
)
def test_each_status_has_a_group(status: str, group: StatusGroup) -> None:
    """Compared without case and blanks; whatever is not known permits nothing."""
    assert status_group(status) == group


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("Waiting for Permit", "permit"),
        ("On Hold", "on hold"),
        ("Paused", "on hold"),
        ("In Progress", "in progress"),
        ("Completed", "completed"),
        ("Cancelled", "cancelled"),
        ("Odd One", "Odd One"),
        ("", "not known"),
    ],
)
def test_reasons_are_clauses_about_the_project(status: str, words: str) -> None:
    """They follow a colon in a sentence for people."""
    assert words in blocking_reason(status)
