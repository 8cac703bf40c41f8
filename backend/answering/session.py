"""Questions that follow each other: kept for a while, for one caller, whom they ask for, and one knowledge base."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID, uuid4

import orjson

from agent.errors import InvalidRequest
from backend.answering.prompt import Exchange
from backend.sessions.store import Sessions

MOST_EXCHANGES = 10
_HINT = "is not known: it has expired, or belongs to another caller, user or base; leave it out to begin a new one"


@dataclass(frozen=True, slots=True)
class AnswerSession:
    """What was asked and answered so far."""

    id: str
    tenant: str
    place: str  # where it is kept: whose it is and of which base is part of the name
    history: tuple[Exchange, ...] = ()

    @property
    def key(self) -> UUID:
        """For whatever has to stay the same throughout."""
        return UUID(bytes=sha256(self.id.encode()).digest()[:16])


async def open_session(
    sessions: Sessions, tenant: str, subject: str, reads_as: str, base_id: str, session_id: str | None
) -> AnswerSession:
    """A new session, or the one of that id; `InvalidRequest` when there is none for this caller and base.

    `reads_as`: for whom the caller asks. Answers hold what that one may read, and are shown to models later.
    """
    chosen = session_id or str(uuid4())
    place = sha256("\x00".join((subject, reads_as, base_id, chosen)).encode()).hexdigest()
    if session_id is None:
        return AnswerSession(chosen, tenant, place)
    kept = await sessions.exchanges(tenant, place)
    if not kept:
        raise InvalidRequest("unknown session", field="sessionId", user_hint=_HINT)
    return AnswerSession(chosen, tenant, place, tuple(Exchange(*orjson.loads(each)) for each in kept))


async def remember(sessions: Sessions, session: AnswerSession, question: str, answer: str) -> None:
    """Keep an exchange with those before it; the oldest go."""
    await sessions.keep_exchange(session.tenant, session.place, orjson.dumps([question, answer]), MOST_EXCHANGES)
