"""The one dependency that says who asks, and access to what the routes are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from fastapi import Depends, Header, Request

from agent.errors import Forbidden
from backend.conversations.service import ConversationService
from backend.identity.principal import Principal
from backend.records.database import Database
from backend.routing.models import Models
from backend.sessions.breakers import RedisBreakers
from backend.sessions.store import Sessions
from backend.telemetry.metrics import Metrics
from knowledge_base.bases import KnowledgeBases
from knowledge_base.loading.runner import JobRunner
from tools.contract import Directory, Toolbox


class Identities(Protocol):
    """How a request's headers become a principal; each authentication mode is one of these."""

    @property
    def identities(self) -> Mapping[str, Principal]:
        """Identities that a person may choose from; empty where identity must be proven."""
        ...

    @property
    def default(self) -> str | None:
        """The key of the one that a caller gets who names none."""
        ...

    def identify(self, headers: Mapping[str, str]) -> Principal:
        """The verified caller; `Unauthenticated` or `InvalidRequest` otherwise."""
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """What routes work with; made by the composition root and kept on the application."""

    service: ConversationService
    db: Database
    sessions: Sessions
    breakers: RedisBreakers
    identities: Identities
    directory: Directory
    toolbox: Toolbox
    agent: str
    models: Models
    metrics: Metrics
    knowledge: KnowledgeBases
    loading: JobRunner


def backend(request: Request) -> Backend:
    """The application's parts."""
    found: Backend = request.app.state.backend
    return found


async def caller(
    request: Request,
    _identity: Annotated[
        str | None, Header(alias="x-demo-identity", description="demo identity, `c1` when absent")
    ] = None,
) -> Principal:
    """Who asks. Every route over customer data depends on it."""
    return backend(request).identities.identify(request.headers)


async def operator(who: Annotated[Principal, Depends(caller)]) -> Principal:
    """Who asks, if an operator does; `Forbidden` for everybody else."""
    if who.identity.role != "operator":
        raise Forbidden("not an operator", user_hint="Only an operator may do this.")
    return who


async def _parts(request: Request) -> Any:
    return backend(request)


Caller = Annotated[Principal, Depends(caller)]
Operator = Annotated[Principal, Depends(operator)]
Parts = Annotated[Backend, Depends(_parts)]
