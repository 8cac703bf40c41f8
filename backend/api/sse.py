"""A turn as Server-Sent Events: `event:` the type, `id:` the seq, `data:` the event's JSON; a comment as a ping."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from fastapi.responses import StreamingResponse

from backend.conversations.frames import Frame
from backend.conversations.turn import Turn

PING = b": ping\n\n"


def response(turn: Turn, after: int = -1) -> StreamingResponse:
    """Stream what comes above `after`. Refuses before the first byte; a closed connection does not end the turn."""
    return StreamingResponse(
        _encode(turn.batches(after)),
        media_type="text/event-stream",
        headers={
            "cache-control": "no-cache, no-transform",
            "x-accel-buffering": "no",
            "x-session-id": str(turn.conversation_id),
            "x-turn-id": str(turn.turn_id),
        },
    )


async def _encode(batches: AsyncIterator[Sequence[Frame]]) -> AsyncIterator[bytes]:
    async for batch in batches:
        yield (
            b"".join(
                [b"event: %b\nid: %d\ndata: %b\n\n" % (each.event.type.encode(), each.seq, each.data) for each in batch]
            )
            or PING
        )
