"""Pending actions as rows."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import orjson

from agent.ports import PendingAction


def pending_actions(text: str | None) -> tuple[PendingAction, ...]:
    """Read what `json_agg` made of rows of `pending_actions`; none for NULL."""
    return tuple(
        PendingAction(
            pending_id=UUID(row["id"]),
            call_id=row["call_id"],
            tool=row["tool"],
            args=row["args"],
            restatement=row["restatement"],
            summary=row["summary"],
            created_at=datetime.fromisoformat(row["created_at"]),
            expires_at=datetime.fromisoformat(row["expires_at"]),
        )
        for row in (orjson.loads(text) if text else ())
    )
